"""Where the demonstration can stop a worker: it goes on when nobody outside keeps the gate shut.

A gate is a file in the folder ``SHOP_GATES``. Who locks it keeps it shut, until the lock is given
up or its process ends; no time runs out. Without the folder all gates stand open.
"""

import enum
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings


class Gate(enum.StrEnum):
    """The places."""

    #: A cake stays in the oven.
    OVEN = "oven"
    #: An order that is paid does not get to the courier.
    COURIER = "courier"


def go_through(gate: Gate) -> None:
    """Return when the gate is open."""
    if settings.SHOP_GATES:
        with (Path(settings.SHOP_GATES) / gate).open("a") as file:
            # Shared: those who go through never wait for each other.
            fcntl.flock(file, fcntl.LOCK_SH)


@contextmanager
def kept_shut(folder: Path, gate: Gate) -> Iterator[None]:
    """Nobody goes through until the block ends."""
    with (folder / gate).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
