"""A contestant's site behind gunicorn or granian, as many workers and threads for everybody."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.environments import ROOT, UnusableError
from tests.support.servers import LOOPBACK
from tests.support.servers.server import free_port

WORKERS, THREADS = 2, 4
WSGI = "benchmarks.sites.wsgi:application"
#: Seconds until a server listens.
PATIENCE = 30.0


def _gunicorn(port: int) -> list[str]:
    bind, workers, threads = f"{LOOPBACK}:{port}", str(WORKERS), str(THREADS)
    return [
        *("gunicorn", WSGI, "--bind", bind, "--workers", workers, "--threads", threads),
        *("--graceful-timeout", "2"),
    ]


def _granian(port: int) -> list[str]:
    return [
        *("granian", WSGI, "--interface", "wsgi", "--host", LOOPBACK, "--port", str(port)),
        *("--workers", str(WORKERS), "--blocking-threads", str(THREADS)),
        *("--workers-kill-timeout", "2"),
    ]


SERVERS: Mapping[str, Callable[[int], list[str]]] = {"gunicorn": _gunicorn, "granian": _granian}


def _wait(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    # Both say so, in the same words.
    while "Listening at" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise UnusableError(log.read_text().strip().splitlines()[-1:])
        time.sleep(0.1)


@contextmanager
def served(server: str, python: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Serve the site of these variables; yields its address. Raises UnusableError."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python, "-m", *SERVERS[server](port)],
                stdout=output,
                stderr=output,
                env=os.environ | variables,
                cwd=ROOT,
            )
        try:
            _wait(log, process)
            yield f"http://{LOOPBACK}:{port}"
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
