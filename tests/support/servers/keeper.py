"""Runs one server for exactly as long as the process that asked for it lives.

``server.py`` starts this file as a script and holds the other end of its standard input. Whatever
happens to that process, kill -9 included, the pipe ends and the server is stopped. The server's
process id is the one line on standard output.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

# A fast shutdown of a busy server takes well under a second; a hung one must not outlive its tests.
PATIENCE = 15.0

# A forked child of the starter keeps the pipe open after the starter's death: look at the parent
# as well, this often (seconds).
PERIOD = 0.2

PR_SET_PDEATHSIG = 1


def serve(command: list[str], stop_signal: int, user: int | None, group: int | None) -> int:
    """Run ``command`` until it ends or the starter does; its exit status."""
    starter = os.getppid()
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        user=user,
        group=group,
        extra_groups=None if user is None else [],
        preexec_fn=follow(stop_signal),
    )
    try:
        print(server.pid, flush=True)
        while server.poll() is None and os.getppid() == starter:
            if select.select([sys.stdin], [], [], PERIOD)[0]:
                break
    finally:
        stop(server, stop_signal)
    return server.returncode


def follow(stop_signal: int) -> Callable[[], object] | None:
    """What makes Linux stop the server, should the keeper itself be killed."""
    if sys.platform != "linux":
        return None
    # Loaded before the fork; called after the change of user, which would undo it.
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, stop_signal)


def stop(server: subprocess.Popen[bytes], stop_signal: int) -> None:
    """End ``server`` politely, and after ``PATIENCE`` seconds by force."""
    if server.poll() is None:
        server.send_signal(stop_signal)
        try:
            server.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def terminated(number: int, _frame: FrameType | None) -> None:
    """Turn a SIGTERM into an exception, so that the server is stopped on the way out."""
    sys.exit(128 + number)


def number(text: str) -> int | None:
    """The number an argument carries; ``-`` stands for none."""
    return None if text == "-" else int(text)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminated)
    sys.exit(serve(sys.argv[4:], int(sys.argv[1]), number(sys.argv[2]), number(sys.argv[3])))
