"""Clean-up and erasure: both go through the table in windows and skip live records."""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import router

from ..models import IdempotencyRecord
from ..replay_cache.replays import invalidate, replays
from ..storage.upkeep import Upkeep

#: Rows deleted by one statement: PostgreSQL needs 6 ms for them, so nothing waits long for it.
BATCH_SIZE = 2000
# Without a pause, other commits queue up behind the database's log. The busier the database is,
# the longer a batch takes, and the longer the pause has to be.
_SHARE_OF_PAUSE = 1 / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The pace and the limits of a clean-up.

    One statement deletes ``batch_size`` rows, all of them together ``limit`` rows at most. Records
    qualify that expired at least ``older_than`` ago. ``sleep`` is the pause between two statements;
    None stands for a share of the time that the last one took.
    """

    batch_size: int = BATCH_SIZE
    limit: int | None = None
    older_than: timedelta = timedelta()
    sleep: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """How many records were deleted, and how many are in progress with no live owner in sight.

    A record is ``abandoned`` when its lease is over, and its retention would be.
    """

    deleted: int
    abandoned: int


#: The figures look back one week.
COUNTS_KEPT = timedelta(days=8)


def clean_up(
    store: Upkeep, sweep: Sweep, progress: Callable[[int], object] = lambda deleted: None
) -> Swept:
    """Delete expired records, and counts that are too old for the figures.

    Safe beside requests and beside another clean-up: locked records are left for the next time, as
    are those that expire meanwhile. ``progress`` gets the number of records of each batch.
    """
    store.purge_counts(COUNTS_KEPT)
    deleted = abandoned = 0
    for batch in _batches(store, sweep):
        progress(batch.deleted)
        deleted += batch.deleted
        abandoned += batch.abandoned
    return Swept(deleted, abandoned)


def _pause(duration: timedelta) -> None:
    if duration:
        time.sleep(duration.total_seconds())


def _batches(store: Upkeep, sweep: Sweep) -> Iterator[Swept]:
    # Each batch begins where the last one ended: a scan from the beginning would meet the index
    # entries of all rows deleted so far, until the database removes them.
    low: Any = store.dialect.beginning
    until, left = store.moment(sweep.older_than), sweep.limit or sys.maxsize
    # Most projects have no steps or envelopes; then the batches need not delete any.
    parts = store.has_parts()
    while low is not None and left > 0:
        began, size = time.monotonic(), min(sweep.batch_size, left)
        edge = store.edge(low, until, size)
        high = until if edge is None else edge
        # Records that expire at the same moment as the last one belong to the window, too.
        most = min(2 * size, left)
        deleted = store.purge(low, high, most, parts=parts)
        if not (deleted or parts) and (parts := store.has_parts()):
            deleted = store.purge(low, high, most)
        left -= deleted
        is_empty = deleted == size and edge is not None
        yield Swept(deleted, 0 if is_empty or deleted == most else store.abandoned(low, high))
        if deleted < most:
            low = edge
        if low is not None:
            share = timedelta(seconds=(time.monotonic() - began) * _SHARE_OF_PAUSE)
            _pause(share if sweep.sleep is None else sweep.sleep)


def clean_up_as_task(using: str, batch_size: int, limit: int | None) -> int:
    """Clean up one database, the router's if ``using`` is empty; returns how many were deleted."""
    alias = using or router.db_for_write(IdempotencyRecord)
    return clean_up(Upkeep(alias), Sweep(batch_size=batch_size, limit=limit)).deleted


class NotInvalidatedError(Exception):
    """The records are erased, but the replay cache has not confirmed that it dropped them."""

    def __init__(self, erased: int) -> None:
        super().__init__(erased)
        self.erased = erased


_FIRST, _LAST = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


def erase(
    store: Upkeep,
    scope: str,
    *,
    forget: bool = False,
    batch_size: int = 1000,
    sleep: timedelta = timedelta(),
) -> int:
    """Erase the contents of one caller's finished records; returns how many there were.

    A used key is then refused with 410 until its retention is over. With ``forget`` the records are
    deleted, and the key runs anew. Records in progress and locked records stay as they are. Raises
    NotInvalidatedError when the records are erased but the replay cache may still answer.
    """
    low: Any = store.dialect.uuid(_FIRST)
    last = store.dialect.uuid(_LAST)
    total, is_invalidated = 0, True
    while low is not None:
        edge = store.scope_edge(scope, low, batch_size)
        high = last if edge is None else edge
        window = (scope, low, high)
        cached = store.ids_of(*window) if replays(store.alias) else []
        total += store.delete_scope(*window, batch_size) if forget else store.erase_scope(*window)
        is_invalidated &= invalidate(store.alias, cached)
        low = edge
        _pause(sleep)
    if not is_invalidated:
        raise NotInvalidatedError(total)
    return total
