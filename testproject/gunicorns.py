"""Starts gunicorn on the loopback interface, finds out which port it got, and ends it."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_LISTENING = re.compile(r"Listening at: http://127\.0\.0\.1:(\d+)")
_WORKER = re.compile(r"Booting worker with pid: (\d+)")
# Longer than it takes from a cold disk on a busy machine.
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0

Server = subprocess.Popen[bytes]


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what it says of a shop, a provider or gunicorn, and ``own``."""
    # gunicorn adds to its options what the last of them holds.
    foreign = ("SHOP_", "PROVIDER_", "GUNICORN_CMD_ARGS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**inherited, **own}


def start(log_file: Path, variables: dict[str, str], *arguments: str) -> Server:
    """A gunicorn with these variables and arguments; it may yet fail.

    It leads a process group, so that Ctrl-C reaches us only, and its workers can be killed with it.
    """
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments],
            cwd=ROOT,
            env=variables,
            stdout=log,
            stderr=log,
            process_group=0,
        )


def port(server: Server, log: Path) -> int:
    """The port it listens on, as soon as a worker is there; raises RuntimeError with its log."""
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        text = log.read_text()
        if (found := _LISTENING.search(text)) and _WORKER.search(text):
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"gunicorn did not start:\n{log.read_text()}")


def wait_until_closed(port: int) -> None:
    """Return when nothing listens there; a killed worker takes a moment longer than its parent."""
    with contextlib.suppress(ConnectionError):
        while True:
            socket.create_connection(("127.0.0.1", port)).close()


def stop(server: Server) -> None:
    """End it; requests get the time its configuration gives them."""
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        # Its workers notice that they have another parent, and end.
        server.kill()
        server.wait()
