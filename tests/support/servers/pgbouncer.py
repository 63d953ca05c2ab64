"""PgBouncer in transaction mode, from the system's packages, in front of a PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path

from .postgresql import PostgreSQL
from .programs import installed
from .server import LOOPBACK, Server

REMEDY = "on Debian and Ubuntu: apt install pgbouncer"


class PgBouncer(Server):
    """Each transaction may run on another connection of the running PostgreSQL ``behind``.

    PgBouncer keeps its connections, so a database that was used through it is not dropped easily.
    """

    # Fewer connections than 4 x 8 gunicorn threads, so that clients do share them. No Unix socket:
    # with one, a port that is taken would be a warning only.
    defaults = {
        "listen_addr": LOOPBACK,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": "20",
        "max_client_conn": "500",
        "ignore_startup_parameters": "extra_float_digits",
    }

    def __init__(
        self,
        behind: PostgreSQL,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(options, environment)
        self.behind = behind

    @property
    def url(self) -> str:
        """The database of the server behind; the query tells the settings what stands before it."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/idempotency?pgbouncer=true"

    @property
    def configuration(self) -> Path:
        """The file that names the port, hence written at each start."""
        return self.folder / "pgbouncer.ini"

    @property
    def pidfile(self) -> Path:
        """Written when the port is bound."""
        return self.folder / "pid"

    def find(self) -> None:
        self.program = installed("pgbouncer", remedy=REMEDY)

    def prepare(self) -> None:
        """Nothing: the configuration has to wait for a port."""

    def start(self) -> None:
        options = {**self.options, "listen_port": str(self.port), "pidfile": str(self.pidfile)}
        self.configuration.write_text(
            "[databases]\n"
            f"* = host={LOOPBACK} port={self.behind.port} user=postgres\n"
            "[pgbouncer]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
        )
        super().start()

    def command(self) -> list[str]:
        """``pgbouncer`` in the foreground."""
        return [str(self.program), str(self.configuration)]

    def answers(self) -> bool:
        """Whether the process that runs has written its number, which a killed one leaves too."""
        return self.pidfile.exists() and self.pidfile.read_text().strip() == str(self.pid)
