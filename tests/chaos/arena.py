"""What the hammer hits: a database, the proxy before it, gunicorn, and the cleanup beside it.

Each is a process with a pipe on its standard input, and ends with it: nothing outlives the hammer.
"""

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from tests.servers import MariaDB, PostgreSQL, Server
from tests.servers.server import pipe

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


class Arena:
    """The database with its tables, and around a storm all that stands on it."""

    proxy: Proxy | None = None
    site: Site
    #: Rows the cleanup deleted.
    cleaned = 0

    def __init__(self, database: str, folder: Path) -> None:
        self.server = database_server(database)
        self._folder = folder
        self._resources = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start the database and create the tables."""
        if self.server is not None:
            self._resources.enter_context(self.server)
        with contextlib.ExitStack() as undo:
            undo.callback(self._resources.close)
            ledger.prepare(self.server, self._folder)
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the database."""
        self._resources.close()

    @contextlib.contextmanager
    def hit(self) -> Iterator[None]:
        """Start the proxy, the site and the cleanup; stop them at the end."""
        environment = dict(os.environ)
        with contextlib.ExitStack() as stack:
            if self.server is not None:
                self.proxy = stack.enter_context(Proxy(self.server.port))
                environment["IDEMPOTENCY_TEST_DATABASE_PORT"] = str(self.proxy.port)
            self.site = stack.enter_context(Site(self._folder, environment))
            cleaner = child("-m", "tests.chaos.cleaner", environment=environment)
            cleaning = stack.enter_context(cleaner)
            yield
            self.cleaned = int(cleaning.communicate(b"\n")[0])
