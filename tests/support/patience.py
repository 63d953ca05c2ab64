"""Waits for what must happen, however slow the machine is."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: More than any loaded machine needs; less than a lease, a database's own wait for a lock, and the
#: time after which pytest ends a test. Only what hangs takes so long.
HANG_SECONDS = 30.0


def until(ask: Callable[[], T | None], what: str = "it did not happen") -> T:
    """The first answer that is true; what never is fails, with these words."""
    deadline = time.monotonic() + HANG_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return answer
