"""The shop on gunicorn and its completers: how they are started, killed, and come back.

Each is a process that ends with us, whatever happens.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from testproject import gunicorns
from testproject.provider.server import Provider
from tests.support.servers.server import KEEPER, LOOPBACK, free_port, listens, pipe

WORKERS = 4
THREADS = 4
#: Seconds that the shop waits for its partners, and for a dead owner.
HURRY = {"SHOP_CALL_SECONDS": "0.5", "SHOP_LEASE_SECONDS": "1"}

_GUNICORN = (
    *("gunicorn", "tests.durable.wsgi", "--preload", "--no-control-socket"),
    *("--workers", str(WORKERS), "--threads", str(THREADS)),
    # Only the tests kill a worker.
    *("--keep-alive", "0", "--graceful-timeout", "2", "--timeout", "0", "--bind"),
)
_COMPLETER = (
    *("testproject.manage", "complete_idempotent_operations"),
    *("--loop", "--interval", "0.1s"),
)
_START_SECONDS = 60.0


def _send(process: int, number: signal.Signals) -> bool:
    """Whether it was there to receive the signal."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
        return True
    return False


class Kept:
    """A module that runs as a process of its own, and its process id."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        keeper = (sys.executable, "-I", str(KEEPER), str(int(signal.SIGTERM)), "-", "-")
        with log.open("ab") as output:
            self._keeper = subprocess.Popen(
                [*keeper, sys.executable, "-m", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=gunicorns.ROOT,
                env=environment,
            )
        self.pid = int(pipe(self._keeper.stdout).readline())

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._keeper.poll() is None

    def kill(self) -> None:
        """``kill -9``."""
        _send(self.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it in good order, if it still runs."""
        with contextlib.suppress(BrokenPipeError):
            pipe(self._keeper.stdin).close()
        self._keeper.wait()
        pipe(self._keeper.stdout).close()


class Site:
    """A shop with its completers, and the means to kill each of its processes."""

    def __init__(self, folder: Path, provider: Provider, completers: int, version: str) -> None:
        self._folder = folder
        self._frozen = 0
        self._environment = {
            **os.environ,
            **HURRY,
            "SHOP_PROVIDER_URL": provider.address,
            "SHOP_VERSION": version,
            "IDEMPOTENCY_TEST_CONN_MAX_AGE": "60",
        }
        self.port = free_port()
        bind = f"{LOOPBACK}:{self.port}"
        self._gunicorn = Kept((*_GUNICORN, bind), self._environment, folder / "gunicorn.log")
        self._completers = [self._completer() for _ in range(completers)]

    @property
    def address(self) -> str:
        """Where its customers go."""
        return f"http://{LOOPBACK}:{self.port}"

    def _completer(self) -> Kept:
        return Kept(_COMPLETER, self._environment, self._folder / "completer.log")

    def wait_until_it_serves(self) -> None:
        """Return when it listens and has workers; raises RuntimeError with the log."""
        deadline = time.monotonic() + _START_SECONDS
        # A child alone may be whatever an import runs.
        while not (listens(self.port) and self.workers()):
            if time.monotonic() > deadline or not self._gunicorn.is_running:
                raise RuntimeError((self._folder / "gunicorn.log").read_text())
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        pid = self._gunicorn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(number) for number in children.read_text().split()]

    def kill_a_worker(self, rng: random.Random) -> bool:
        """Whether there was one that is not frozen."""
        workers = [worker for worker in self.workers() if worker != self._frozen]
        return bool(workers) and _send(rng.choice(workers), signal.SIGKILL)

    def freeze_a_worker(self, rng: random.Random, seconds: float) -> bool:
        """Whether one was frozen for so long; one at a time, from one thread."""
        workers = self.workers()
        if not workers:
            return False
        self._frozen = rng.choice(workers)
        frozen = _send(self._frozen, signal.SIGSTOP)
        time.sleep(seconds)
        thawed = self._frozen in self.workers() and _send(self._frozen, signal.SIGCONT)
        self._frozen = 0
        return frozen and thawed

    def kill_a_completer(self, rng: random.Random) -> None:
        """Another one takes its place."""
        number = rng.randrange(len(self._completers))
        self._completers[number].kill()
        self._completers[number] = self._completer()

    def kill(self) -> None:
        """All of it in the middle of whatever it does."""
        workers = self.workers()
        self._gunicorn.kill()
        for worker in workers:
            _send(worker, signal.SIGKILL)
        for completer in self._completers:
            completer.kill()

    def stop(self) -> None:
        """All of it in good order."""
        for process in (self._gunicorn, *self._completers):
            process.stop()


@contextmanager
def open_site(
    folder: Path, provider: Provider, *, completers: int = 0, version: str = "first"
) -> Iterator[Site]:
    """A shop that serves, until the block ends."""
    site = Site(folder, provider, completers, version)
    try:
        site.wait_until_it_serves()
        yield site
    finally:
        site.stop()
