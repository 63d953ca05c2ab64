"""MariaDB, from the system's packages: no wheel on PyPI brings it."""

import socket
from pathlib import Path

from .programs import installed
from .server import LOOPBACK, Server

REMEDY = "on Debian and Ubuntu: apt install mariadb-server"

# Run once, by the bootstrap. It knows no users until the privileges are loaded.
USERS_AND_DATABASES = """\
FLUSH PRIVILEGES;
CREATE USER idempotency@'%';
GRANT ALL ON *.* TO idempotency@'%' WITH GRANT OPTION;
CREATE DATABASE idempotency;
"""


class MariaDB(Server):
    """A MariaDB server whose user ``idempotency`` needs no password on the loopback interface."""

    # Durable as PostgreSQL is; small, because several run side by side; as many connections as
    # 4 x 8 gunicorn threads, 16 racers and the tests' own may need.
    defaults = {
        "bind-address": LOOPBACK,
        "max-connections": "300",
        "character-set-server": "utf8mb4",
        "innodb-flush-log-at-trx-commit": "1",
        "innodb-buffer-pool-size": "32M",
        "innodb-log-file-size": "32M",
        "skip-name-resolve": "1",
    }

    @property
    def url(self) -> str:
        """The server's first database; the tests put their own beside it."""
        return f"mysql://idempotency@{LOOPBACK}:{self.port}/idempotency"

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def socket_path(self) -> Path:
        """The Unix socket; its path must stay below 108 bytes."""
        return self.folder / "socket"

    def find(self) -> None:
        self.server = installed("mariadbd", "mysqld", remedy=REMEDY)
        self.installer = installed("mariadb-install-db", "mysql_install_db", remedy=REMEDY)

    def prepare(self) -> None:
        """Create the system tables, the user and the database that ``url`` names."""
        script = self.folder / "bootstrap.sql"
        script.write_text(USERS_AND_DATABASES)
        self.run(
            *(self.installer, "--no-defaults", "--force", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", f"--extra-file={script}"),
            *(f"--datadir={self.data}", *self.settings("innodb-", "character-")),
        )

    def command(self) -> list[str]:
        """``mariadbd`` in the foreground, without the system's configuration."""
        own = [f"--datadir={self.data}", f"--socket={self.socket_path}", f"--port={self.port}"]
        return [str(self.server), "--no-defaults", *own, *self.settings()]

    def settings(self, *prefixes: str) -> list[str]:
        """The options, or those with these prefixes, as arguments."""
        chosen = self.options.items()
        return [f"--{name}={value}" for name, value in chosen if name.startswith(prefixes or "")]

    def answers(self) -> bool:
        """Wait for a greeting on the Unix socket, which is this server's alone.

        The socket is there before the server is ready; the greeting is not.
        """
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
                return bool(client.recv(1))
            except OSError:
                return False
