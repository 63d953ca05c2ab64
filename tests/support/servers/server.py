"""What all servers have in common: a port, a folder, a keeper, and a user who is not root."""

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, ClassVar, Self

from .errors import ServerError, ServerStartError, ServerUnavailableError
from .folders import run_folder
from .programs import last_lines

LOOPBACK = "127.0.0.1"
DATABASE_VARIABLE = "IDEMPOTENCY_TEST_DATABASE"
KEEPER = Path(__file__).with_name("keeper.py")

# EX_UNAVAILABLE of sysexits.h: tells a server that cannot be had from a command that failed.
UNAVAILABLE = 69

# Another process may take a free port before the server binds it.
PORT_ATTEMPTS = 3

# Seconds until a server must answer; a cold disk on a busy machine needs several.
START_TIMEOUT = 60.0


class Server(ABC):
    """One server with a port and a folder of its own; use it as a context manager.

    ``options`` are the server's own, by the server's names, and win over those in ``defaults``;
    ``environment`` is added to the process's, see
    :func:`~tests.support.servers.clock.shifted_clock`.
    ``pid`` and ``port`` are those of the running server. ``crash()`` and ``start()`` restart it
    over the same data and on the same port; options and environment may be changed in between.
    """

    user: int | None
    group: int | None
    variable: ClassVar[str] = DATABASE_VARIABLE
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    crash_signal: ClassVar[signal.Signals] = signal.SIGKILL
    defaults: ClassVar[Mapping[str, str]]

    def __init__(
        self,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.options = {**self.defaults, **(options or {})}
        self.environment = {**(environment or {})}
        self.user, self.group = unprivileged() or (None, None)
        self.port = 0
        self.pid = 0
        self._resources = contextlib.ExitStack()
        self._keeper: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find the server; exported as ``variable``."""

    @abstractmethod
    def find(self) -> None:
        """Find the server's programs, or get them; raises ServerUnavailableError."""

    @abstractmethod
    def prepare(self) -> None:
        """Write what the server needs into ``self.folder`` before its first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """The program that serves on ``self.port`` in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether this very server, not another one on its port, takes connections."""

    def populate(self) -> None:  # noqa: B027 - most servers are ready as they are
        """Create in the fresh, running server what its clients expect."""

    def __enter__(self) -> Self:
        """Fetch, prepare and start the server; raises ServerError."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.find()
            self.folder = self._resources.enter_context(run_folder(self.user, self.group))
            self.prepare()
            self._start_somewhere()
            self.populate()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server and remove its folder."""
        self.close()

    def close(self) -> None:
        """Stop the server and remove its folder; harmless when repeated."""
        self.stop()
        self._resources.close()

    def start(self) -> None:
        """Start the server on ``self.port`` and wait until it answers; raises ServerStartError."""
        user = "-" if self.user is None else str(self.user)
        group = "-" if self.group is None else str(self.group)
        arguments = [str(KEEPER), str(int(self.stop_signal)), user, group, *self.command()]
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self.folder,
                env=clean_environment() | self.environment,
                start_new_session=True,
            )
        self.pid = int(pipe(self._keeper.stdout).readline() or 0)
        self._wait_until_it_answers(self._keeper)

    def stop(self) -> None:
        """Stop the server in good order and wait for its end; harmless when it does not run."""
        if self._keeper is not None:
            # A forked child may hold the pipe too, so its end alone might never arrive.
            with contextlib.suppress(BrokenPipeError):
                pipe(self._keeper.stdin).write(b"stop\n")
                pipe(self._keeper.stdin).flush()
            self._reap(self._keeper)

    def crash(self) -> None:
        """Stop the server at once, as a crash would: the next ``start`` has to recover."""
        if self._keeper is not None:
            os.kill(self.pid, self.crash_signal)
            self._reap(self._keeper)

    @property
    def log(self) -> Path:
        """What the server printed."""
        return self.folder / "log"

    def run(self, *command: str | Path) -> None:
        """Run one of the server's tools as the server's user; raises ServerUnavailableError."""
        done = subprocess.run(
            [str(part) for part in command],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=clean_environment(),
            user=self.user,
            group=self.group,
            extra_groups=None if self.user is None else [],
        )
        if done.returncode:
            said = last_lines(done.stdout + done.stderr)
            raise ServerUnavailableError(f"{Path(command[0]).name}: {said}")

    def _start_somewhere(self) -> None:
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.port = free_port()
            try:
                return self.start()
            except ServerStartError:
                if attempt == PORT_ATTEMPTS:
                    raise
        return None

    def _wait_until_it_answers(self, keeper: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if keeper.poll() is not None or time.monotonic() > deadline:
                self.stop()
                name = type(self).__name__
                raise ServerStartError(f"{name}: {last_lines(self.log.read_text())}")
            time.sleep(0.05)

    def _reap(self, keeper: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe(keeper.stdin).close()
        keeper.wait()
        pipe(keeper.stdout).close()
        self._keeper, self.pid = None, 0


def unprivileged() -> tuple[int, int] | None:
    """The ids of ``nobody`` if this process is root, which the servers refuse; otherwise None."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def clean_environment() -> dict[str, str]:
    """The environment without settings that would lead the servers' tools elsewhere."""
    stray = ("PG", "MYSQL_", "MARIADB_", "LC_")
    kept = {name: text for name, text in os.environ.items() if not name.startswith(stray)}
    return {**kept, "LC_ALL": "C"}


def listens(port: int) -> bool:
    """Whether a process takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """The stream of a process that was started with one."""
    if stream is None:
        raise ServerError("the keeper was started without its pipes")
    return stream
