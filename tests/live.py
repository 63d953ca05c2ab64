"""A real gunicorn in front of the test app: several processes, several threads, one database."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LISTENING = re.compile(r"Listening at: (http://\S+)")


def _address(log: Path, server: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if found := _LISTENING.search(log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise RuntimeError(log.read_text())


@contextmanager
def gunicorn(folder: Path, *, workers: int = 4, threads: int = 8) -> Iterator[str]:
    """Serve the test app on a free port; yields its address."""
    log = folder / "gunicorn.log"
    command = [
        *(sys.executable, "-m", "gunicorn", "tests.wsgi", "--bind", "127.0.0.1:0"),
        *("--workers", str(workers), "--threads", str(threads), "--graceful-timeout", "2"),
    ]
    defaults = {"DJANGO_SETTINGS_MODULE": "tests.settings", "IDEMPOTENCY_TEST_CONN_MAX_AGE": "60"}
    environment = defaults | os.environ
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        yield _address(log, server)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=20)
