"""The servers of a section, each a context: databases, a Redis, and sites behind gunicorn."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from benchmarks.environments import ROOT, UnusableError, python_of, run, variables
from benchmarks.sites.contestants import CONTESTANTS, Contestant
from benchmarks.sites.databases import database_name
from tests.support.servers import LOOPBACK, REDIS_VARIABLE, MariaDB, PostgreSQL, Server, Valkey
from tests.support.servers.server import free_port, listens

#: Seconds until a site listens.
PATIENCE = 30.0


@contextmanager
def database(kind: str, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """A server of this kind, or a folder for SQLite; yields its URL.

    ``options`` are the server's own. Raises ServerUnavailableError.
    """
    if kind == "sqlite":
        # A temporary folder may be in memory, where nothing is flushed.
        with tempfile.TemporaryDirectory(dir=os.environ.get("IDEMPOTENCY_TEST_DATA")) as folder:
            yield f"sqlite://{folder}"
    else:
        with MariaDB(options) if kind == "mariadb" else PostgreSQL(options=options) as server:
            _print_version(server)
            yield server.url


def _print_version(server: Server) -> None:
    print(run(server.command()[0], "--version").strip(), flush=True)


@contextmanager
def redis() -> Iterator[None]:
    """A Valkey that the processes started inside find in their environment."""
    with Valkey() as server:
        os.environ[REDIS_VARIABLE] = server.url
        _print_version(server)
        yield


def apart(measure: Callable[..., Any], address: str, *arguments: Any, **others: str) -> Any:
    """What ``measure`` returns in a new process, whose Django is that of the site ``ours``.

    ``others`` are more variables of its environment. A process can have one set of settings only.
    """
    environment = variables(CONTESTANTS["ours"], address) | others
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_set_up, initargs=(environment,)) as pool:
        return pool.submit(measure, *arguments).result()


def _set_up(environment: dict[str, str]) -> None:
    import django

    os.environ.update(environment)
    django.setup()


@dataclass(frozen=True, slots=True)
class Site:
    """The site of a contestant that is being served."""

    contestant: Contestant
    url: str
    python: Path
    variables: Mapping[str, str]
    #: The URL of its database on PostgreSQL.
    database: str

    def count(self, condition: str = "true") -> int:
        """How many orders there are."""
        with psycopg.connect(self.database) as connection:
            query = f"SELECT count(*) FROM orders_order WHERE {condition}"
            found = connection.execute(query).fetchone()
        return int(found[0]) if found else 0


@contextmanager
def site(
    name: str, address: str, *, workers: int = 2, threads: int = 4, **others: str
) -> Iterator[Site]:
    """The site of a contestant behind gunicorn, with empty tables on a PostgreSQL.

    ``others`` are more variables of its environment. Raises UnusableError.
    """
    contestant = CONTESTANTS[name]
    python = python_of(contestant)
    own = variables(contestant, address) | others
    run(python, "-m", "benchmarks.sites.prepare", **own)
    port = free_port()
    command = [
        *(str(python), "-m", "gunicorn", "benchmarks.sites.wsgi:application"),
        *("--bind", f"{LOOPBACK}:{port}", "--graceful-timeout", "2", "--log-level", "error"),
        *("--workers", str(workers), "--threads", str(threads)),
    ]
    place = urlsplit(address)._replace(path=f"/{database_name(name)}").geturl()
    with _served(command, port, own):
        yield Site(contestant, f"http://{LOOPBACK}:{port}", python, own, place)


@contextmanager
def _served(command: list[str], port: int, own: Mapping[str, str]) -> Iterator[None]:
    # What it says goes where errors go: standard output is for the figures.
    process = subprocess.Popen(command, stdout=sys.stderr, env=os.environ | own, cwd=ROOT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UnusableError("its site does not start")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
