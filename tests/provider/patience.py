"""Waits for what happens in another process."""

import time
from collections.abc import Callable
from typing import TypeVar

from testproject.shop import partners

T = TypeVar("T")

# A busy machine; nothing here takes a second.
_SECONDS = 10.0


def eventually(ask: Callable[[], T | None]) -> T:
    """The first answer that is one; a provider that is down is asked again."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer
        except partners.ProviderDownError:
            pass
        time.sleep(0.02)
    raise AssertionError("it did not happen")
