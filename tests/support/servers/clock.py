"""Another time of day for a server, by faketime from the system's packages."""

import subprocess

from .errors import ServerUnavailableError
from .programs import installed, last_lines

REMEDY = "on Debian and Ubuntu: apt install faketime"


def shifted_clock(shift: str) -> dict[str, str]:
    """The environment in which a server's clock is ahead (``+90m``, ``+2d``) or behind (``-1h``).

    ``faketime`` itself stays between a server and the signals it is sent, so it only tells where
    its library is. Time-outs keep running by the true, monotonic clock. After a kill -9 the library
    leaves a few bytes in /dev/shm.
    """
    faketime = installed("faketime", remedy=REMEDY)
    asked = [str(faketime), "-m", "-f", shift, "printenv", "LD_PRELOAD"]
    done = subprocess.run(asked, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ServerUnavailableError(f"faketime: {last_lines(done.stderr)}")
    library = done.stdout.strip()
    return {"LD_PRELOAD": library, "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
