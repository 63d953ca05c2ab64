"""Opens the shop on gunicorn in a folder of its own, and closes it whatever happens."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from testproject import completers, gunicorns
from testproject.shop.gates import Gate, kept_shut

from . import gunicorn_conf
from .books import Books


@dataclass(frozen=True)
class Shop:
    """A running shop: where it listens, its main process, its books, its log, its environment."""

    port: int
    pid: int
    books: Books
    log: Path
    environment: Mapping[str, str]

    @property
    def address(self) -> str:
        """Where clients go."""
        return f"http://127.0.0.1:{self.port}"

    def answered(self, method: str, path: str) -> int:
        """How many of these requests it has answered, with or without a client to read it."""
        return self.log.read_text().count(f'"{method} {path} HTTP/')

    def keeping_shut(self, gate: Gate) -> AbstractContextManager[None]:
        """Until the block ends, no worker goes further than this gate."""
        return kept_shut(Path(self.environment["SHOP_GATES"]), gate)

    @contextmanager
    def completing(self) -> Iterator[None]:
        """Until the block ends, what clients have left is finished by a process of its own."""
        log = self.log.with_name("completer.log")
        with completers.completing(log, self.environment, interval="0.2s"):
            yield


def _environment(folder: Path, bake_seconds: float, provider: str) -> dict[str, str]:
    return gunicorns.environment(
        {
            "DJANGO_SETTINGS_MODULE": "testproject.settings",
            "SHOP_DATABASE": str(folder / "shop.sqlite3"),
            "SHOP_KITCHEN_LOG": str(folder / "kitchen.log"),
            "SHOP_BAKE_SECONDS": str(bake_seconds),
            "SHOP_PROVIDER_URL": provider,
            "SHOP_GATES": str(folder),
            # Nobody wants to wait for the end of a long lease in front of a demonstration.
            "SHOP_CALL_SECONDS": "2",
            "SHOP_LEASE_SECONDS": "1",
        }
    )


def _prepare(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "testproject.manage", "open_shop"]
    subprocess.run(command, cwd=gunicorns.ROOT, env=environment, check=True)


def _start(log: Path, environment: dict[str, str], workers: int) -> gunicorns.Server:
    options = ["--config", f"python:{gunicorn_conf.__name__}", "--workers", str(workers)]
    return gunicorns.start(log, environment, *options, "testproject.wsgi")


@contextmanager
def open_shop(
    *, bake_seconds: float = 0.0, workers: int = gunicorn_conf.workers, provider: str = ""
) -> Iterator[Shop]:
    """A shop of its own in a temporary folder, until the block ends.

    ``bake_seconds`` is how long a person's order takes; programs say it themselves. Without the
    address of a ``provider`` nothing can be delivered.
    """
    with tempfile.TemporaryDirectory(prefix="cake-shop-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        environment, log = _environment(folder, bake_seconds, provider), folder / "gunicorn.log"
        _prepare(environment)
        server = _start(log, environment, workers)
        try:
            books = Books(folder / "shop.sqlite3", folder / "kitchen.log")
            yield Shop(gunicorns.port(server, log), server.pid, books, log, environment)
        finally:
            gunicorns.stop(server)
