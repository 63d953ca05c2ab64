"""Starts wrk, which sends orders as fast as they are answered, and reads what it counted.

``requests.lua`` says what is sent, and makes the keys.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers.programs import installed

SCRIPT = Path(__file__).parent / "requests.lua"
REMEDY = "install it, on Debian and Ubuntu with: apt-get install wrk"


@dataclass(frozen=True, slots=True)
class Answers:
    """What one run of wrk got."""

    seconds: float
    #: Of a request, by wrk's own statistics.
    p50: float
    p99: float
    statuses: dict[str, int]
    #: Answers whose body was that of the answer before, in the same thread.
    repeated: int
    #: Requests without an answer.
    lost: int

    @property
    def count(self) -> int:
        """Of all statuses."""
        return sum(self.statuses.values())

    def rate(self, status: str) -> float:
        """Answers of this status a second."""
        return self.statuses.get(status, 0) / self.seconds

    def others(self, *statuses: str) -> dict[str, int]:
        """Answers of other statuses than these, and those that are lost."""
        found = {name: count for name, count in self.statuses.items() if name not in statuses}
        return found | ({"lost": self.lost} if self.lost else {})


def program() -> Path:
    """Where wrk is; raises ServerUnavailableError."""
    return installed("wrk", remedy=REMEDY)


def version() -> str:
    """As it calls itself: its name and a number."""
    done = subprocess.run([program(), "--version"], check=False, capture_output=True, text=True)
    return " ".join(done.stdout.split()[:2])


def send(
    url: str, *, connections: int, seconds: float, threads: int | None = None, **options: object
) -> Answers:
    """Send orders for so long, by a thread for each connection unless told otherwise."""
    command = [
        *(program(), "--connections", connections, "--threads", threads or connections),
        *("--duration", f"{seconds:.0f}s", "--timeout", "30s", "--script", SCRIPT, url, "--"),
        *(word for pair in options.items() for word in pair),
    ]
    words = [str(word) for word in command]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return Answers(**json.loads(done.stdout.splitlines()[-1]))
