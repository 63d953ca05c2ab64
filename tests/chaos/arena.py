"""What the hammer hits: a database, the proxy before it, a replay cache, gunicorn, and the cleanup
and the clerk beside it.

Each is a process with a pipe on its standard input, and ends with it: nothing outlives the hammer.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.redis.groups import GROUPS, Group
from tests.redis.waits import VARIABLE as WAITS_VARIABLE
from tests.support.servers import REDIS_VARIABLE, MariaDB, PostgreSQL, Server
from tests.support.servers.server import pipe

from . import ledger
from .plan import Fault
from .workers import ROOT, Site

#: By the name of ``--database``; SQLite is no server.
DATABASES = ("sqlite", "postgresql", *(f"postgresql-{v}" for v in PostgreSQL.versions), "mariadb")


def database_server(name: str) -> Server | None:
    """The server ``--database`` names; None for a file."""
    if name == "sqlite":
        return None
    if name == "mariadb":
        return MariaDB()
    version = name.removeprefix("postgresql").removeprefix("-")
    return PostgreSQL(version or PostgreSQL.versions[-1])


@contextlib.contextmanager
def child(*command: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when its standard input does."""
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        pipe(process.stdin).close()
        process.wait()
        pipe(process.stdout).close()


class Proxy:
    """The proxy, and how many cuts of each kind it has made."""

    def __init__(self, database_port: int) -> None:
        self._database_port = database_port
        self.cuts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        """Start it; its port is known afterwards."""
        with contextlib.ExitStack() as stack:
            command = ("-m", "tests.chaos.proxy", str(self._database_port))
            self._process = stack.enter_context(child(*command, environment=os.environ))
            self.port = int(pipe(self._process.stdout).readline())
            self._listener = threading.Thread(target=self._listen)
            self._listener.start()
            self._resources = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        pipe(self._process.stdin).close()
        self._listener.join()
        self._resources.close()

    def cut(self, fault: Fault) -> None:
        """Ask for a cut."""
        orders = pipe(self._process.stdin)
        orders.write(f"{fault.kind} {fault.victim} {fault.seconds}\n".encode())
        orders.flush()

    def _listen(self) -> None:
        for line in pipe(self._process.stdout):
            self.cuts[line.decode().strip()] += 1


@dataclass(frozen=True, slots=True)
class Cache:
    """The replay cache: the name of a group of servers, and whether it answers duplicates."""

    group: str
    fence: bool = False

    @property
    def may_lose(self) -> bool:
        """Whether what was acknowledged may be gone: servers that replace each other do that."""
        return self.group != "valkey"

    @property
    def asked(self) -> int:
        """How many hanging servers a question may meet: a cluster also tells who has what."""
        return 2 if self.group == "cluster" else 1


class Arena:
    """The servers with their tables, and around a storm all that stands on them."""

    proxy: Proxy | None = None
    site: Site
    #: The servers of the replay cache.
    group: Group | None = None
    #: Rows the cleanup deleted.
    cleaned = 0

    def __init__(self, database: str, cache: Cache | None, folder: Path) -> None:
        self.server = database_server(database)
        self._cache = cache
        self._folder = folder
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the servers and create the tables."""
        with contextlib.ExitStack() as undo:
            undo.callback(self._resources.close)
            if self.server is not None:
                self._resources.enter_context(self.server)
            if self._cache is not None:
                self.group = self._resources.enter_context(GROUPS[self._cache.group]())
                os.environ[REDIS_VARIABLE] = self.group.url
                os.environ[WAITS_VARIABLE] = str(self.waits)
                os.environ["IDEMPOTENCY_TEST_INFLIGHT"] = str(int(self._cache.fence))
            ledger.prepare(self.server, self._folder)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the servers."""
        self._resources.close()

    @property
    def waits(self) -> Path:
        """What workers asked the replay cache, and for how long."""
        return self._folder / "waits.jsonl"

    @contextlib.contextmanager
    def hit(self) -> Iterator[None]:
        """Start the proxy, the site, the cleanup and the clerk; stop them at the end."""
        environment = dict(os.environ)
        with contextlib.ExitStack() as stack:
            if self.server is not None:
                self.proxy = stack.enter_context(Proxy(self.server.port))
                environment["IDEMPOTENCY_TEST_DATABASE_PORT"] = str(self.proxy.port)
            self.site = stack.enter_context(Site(self._folder, environment))
            stack.enter_context(child("-m", "tests.chaos.clerk", environment=environment))
            cleaner = child("-m", "tests.chaos.cleaner", environment=environment)
            cleaning = stack.enter_context(cleaner)
            yield
            self.cleaned = int(cleaning.communicate(b"\n")[0])
