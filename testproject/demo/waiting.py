"""Waits for what is bound to happen, however long the machine takes over it."""

import time
from collections.abc import Callable
from typing import TypeVar

# What has not happened by then is broken: nothing takes as long on a machine that is merely busy.
NEVER_SECONDS = 60.0

T = TypeVar("T")


def eventually(ask: Callable[[], T], otherwise: str) -> T:
    """The first answer that is one; raises RuntimeError when none comes."""
    deadline = time.monotonic() + NEVER_SECONDS
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise RuntimeError(otherwise)
        time.sleep(0.02)
    return answer
