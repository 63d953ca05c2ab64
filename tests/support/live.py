"""A real server in front of the test app: several processes or threads, one database."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# gunicorn says "Listening at: ...", uvicorn "Uvicorn running on ...".
_LISTENING = re.compile(r"(?:Listening at:|running on) (http://[\d.:]+)")


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if found := _LISTENING.search(log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


@contextmanager
def _served(log: Path, command: Sequence[str], environment: dict[str, str]) -> Iterator[str]:
    defaults = {"DJANGO_SETTINGS_MODULE": "tests.settings", **environment}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=output,
            stderr=output,
            env=defaults | os.environ,
        )
    try:
        yield _address(log, server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)


@contextmanager
def gunicorn(folder: Path, *, workers: int = 4, threads: int = 8) -> Iterator[str]:
    """Serve the test app on a free port; yields its address."""
    command = [
        *("gunicorn", "tests.wsgi", "--bind", "127.0.0.1:0", "--graceful-timeout", "2"),
        *("--workers", str(workers), "--threads", str(threads)),
    ]
    kept = {"IDEMPOTENCY_TEST_CONN_MAX_AGE": "60"}
    with _served(folder / "gunicorn.log", command, kept) as address:
        yield address


@contextmanager
def uvicorn(folder: Path) -> Iterator[str]:
    """The same by ASGI, in one process; Django gives each request a thread of its own."""
    command = [
        *("uvicorn", "tests.asgi:application", "--host", "127.0.0.1", "--port", "0"),
        *("--no-access-log", "--lifespan", "off", "--timeout-graceful-shutdown", "2"),
    ]
    with _served(folder / "uvicorn.log", command, {}) as address:
        yield address
