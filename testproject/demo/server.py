"""Opens the shop on gunicorn in a folder of its own, and closes it whatever happens."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import gunicorn_conf
from .books import Books

_ROOT = Path(__file__).resolve().parent.parent.parent
_LISTENING = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
_WORKER = re.compile(r"Booting worker with pid: (\d+)")
# A cold disk on a busy machine.
_START_SECONDS = 30.0
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Shop:
    """A running shop: where it listens, its main process, its books and its log."""

    port: int
    pid: int
    books: Books
    log: Path

    @property
    def address(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.port}"

    def answered(self, method: str, path: str) -> int:
        """How many of these requests it has answered, whoever was still there to read."""
        return self.log.read_text().count(f'"{method} {path} HTTP/')


def _environment(folder: Path, bake_seconds: float) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SHOP_")}
    # gunicorn adds to its options what this variable holds.
    inherited.pop("GUNICORN_CMD_ARGS", None)
    own = {
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
        "SHOP_DATABASE": str(folder / "shop.sqlite3"),
        "SHOP_KITCHEN_LOG": str(folder / "kitchen.log"),
        "SHOP_BAKE_SECONDS": str(bake_seconds),
    }
    return inherited | own


def _prepare(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "testproject.manage", "open_shop"]
    subprocess.run(command, cwd=_ROOT, env=environment, check=True)


def _start(log_file: Path, environment: dict[str, str], workers: int) -> subprocess.Popen[bytes]:
    options = ["--config", "python:testproject.demo.gunicorn_conf", "--workers", str(workers)]
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "testproject.wsgi"],
            cwd=_ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )


def _port(server: subprocess.Popen[bytes], log: Path) -> int:
    """The port it listens on, as soon as a worker is there; raises RuntimeError with its log."""
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        text = log.read_text()
        if (found := _LISTENING.search(text)) and _WORKER.search(text):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"gunicorn did not start:\n{log.read_text()}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its workers notice that they have another parent, and end.
        server.kill()
        server.wait()


@contextmanager
def open_shop(*, bake_seconds: float = 0.0, workers: int = gunicorn_conf.workers) -> Iterator[Shop]:
    """A shop of its own in a temporary folder, until the block ends.

    ``bake_seconds`` is how long a person's order takes; programs say it themselves.
    """
    with tempfile.TemporaryDirectory(prefix="cake-shop-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        environment, log = _environment(folder, bake_seconds), folder / "gunicorn.log"
        _prepare(environment)
        server = _start(log, environment, workers)
        try:
            books = Books(folder / "shop.sqlite3", folder / "kitchen.log")
            yield Shop(_port(server, log), server.pid, books, log)
        finally:
            _stop(server)
