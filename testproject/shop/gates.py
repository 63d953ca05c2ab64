"""Gates at which the demonstration, or a test, can stop a worker in the middle of an order.

A gate is a file in the folder ``SHOP_GATES``; a process that locks the file keeps the gate shut. It
opens when that process gives up the lock or ends, never by itself. Without the folder every gate is
open.
"""

import enum
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings


class Gate(enum.StrEnum):
    """Where a worker can be stopped."""

    #: A cake stays in the oven.
    OVEN = "oven"
    #: An order that is paid does not get to the courier.
    COURIER = "courier"


def go_through(gate: Gate) -> None:
    """Return when the gate is open."""
    if settings.SHOP_GATES:
        with (Path(settings.SHOP_GATES) / gate).open("a") as file:
            # A shared lock: workers that go through do not wait for each other.
            fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def kept_shut(folder: Path, gate: Gate) -> Iterator[None]:
    """No worker goes through until the block ends."""
    with (folder / gate).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
