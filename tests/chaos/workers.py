"""Gunicorn and its workers: their process ids, and how to kill, freeze and thaw one."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.support.servers import LOOPBACK
from tests.support.servers.server import KEEPER, free_port, listens, pipe

ROOT = Path(__file__).parents[2]
WORKERS = 10
THREADS = 3


class Site:
    """Gunicorn, whose workers are forked from a master that has imported everything."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self.port = free_port()
        self._frozen: set[int] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Start it and wait for the first worker."""
        gunicorn = (
            *(sys.executable, "-m", "gunicorn", "tests.chaos.wsgi", "--preload"),
            *("--bind", f"{LOOPBACK}:{self.port}", "--no-control-socket", "--keep-alive", "0"),
            *("--workers", str(WORKERS), "--threads", str(THREADS), "--graceful-timeout", "2"),
            # Only the hammer kills a worker, however long it is frozen.
            *("--timeout", "0", "--backlog", "1024"),
        )
        with self.log.open("wb") as log:
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", str(KEEPER), str(int(signal.SIGTERM)), "-", "-", *gunicorn],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
            )
        self.pid = int(pipe(self._keeper.stdout).readline())
        self._wait_until_it_listens()
        return self

    def __exit__(self, *_: object) -> None:
        """Thaw the workers and end it."""
        for worker in self.workers():
            self.send(worker, signal.SIGCONT)
        pipe(self._keeper.stdin).close()
        self._keeper.wait()
        pipe(self._keeper.stdout).close()

    @property
    def log(self) -> Path:
        """What gunicorn printed."""
        return self._folder / "gunicorn.log"

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + 30
        while not listens(self.port):
            if time.monotonic() > deadline or self._keeper.poll() is not None:
                raise RuntimeError(self.log.read_text())
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(number) for number in children.read_text().split()]

    def victim(self, number: int) -> int | None:
        """One of the workers that are not frozen, if there is one."""
        with self._lock:
            alive = [worker for worker in self.workers() if worker not in self._frozen]
        return alive[number % len(alive)] if alive else None

    def send(self, worker: int, number: signal.Signals) -> bool:
        """Send a signal to a worker; whether it was there to receive it."""
        if worker not in self.workers():
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, number)
            return True
        return False

    def freeze(self, worker: int, seconds: float) -> bool:
        """Freeze a worker for so long; whether it was thawed alive."""
        with self._lock:
            if worker in self._frozen:
                return False
            self._frozen.add(worker)
        try:
            frozen = self.send(worker, signal.SIGSTOP)
            time.sleep(seconds)
            return self.send(worker, signal.SIGCONT) and frozen
        finally:
            with self._lock:
                self._frozen.discard(worker)
