"""Clean-up and erasure: they go through the table in windows, and leave what is live alone."""

import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import router

from ..models import IdempotencyRecord
from ..replay_cache.replays import has_replays
from ..replay_cache.replays import invalidate as invalidate_replays
from ..storage.upkeep import Upkeep

#: Rows a statement: PostgreSQL needs 6 ms for them, so nobody waits long behind one.
BATCH_SIZE = 2000
# Without a pause, whoever commits meanwhile queues up behind the database's log. The busier the
# database is, the longer a batch takes, and the more of a pause it needs.
_PAUSE = 1 / 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """How a clean-up goes about it.

    ``batch_size`` rows are deleted by one statement, with a pause of ``sleep`` between two (None: a
    part of what the last one took), of those that expired at least ``older_than`` ago, and
    ``limit`` rows at most.
    """

    batch_size: int = BATCH_SIZE
    limit: int | None = None
    older_than: timedelta = timedelta()
    sleep: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of it: records that were deleted, and records in progress that are left.

    Those are ``abandoned`` whose lease is over, and whose retention would be.
    """

    deleted: int = 0
    abandoned: int = 0

    def __add__(self, other: "Swept") -> "Swept":
        return Swept(self.deleted + other.deleted, self.abandoned + other.abandoned)


#: What the figures count is the last week.
COUNTS_KEPT = timedelta(days=8)


def clean_up(
    store: Upkeep, sweep: Sweep, progress: Callable[[int], object] = lambda deleted: None
) -> Swept:
    """Delete what answers no more, and counts that nobody asks for.

    Safe beside requests and beside itself: what somebody holds is left for the next time, as is
    what expires meanwhile. ``progress`` hears of each batch.
    """
    store.purge_counts(COUNTS_KEPT)
    swept = Swept()
    for batch in _batches(store, sweep):
        progress(batch.deleted)
        swept += batch
    return swept


def _pause(duration: timedelta) -> None:
    if duration:
        time.sleep(duration.total_seconds())


def _since(began: float) -> timedelta:
    return timedelta(seconds=time.monotonic() - began)


def _batches(store: Upkeep, sweep: Sweep) -> Iterator[Swept]:
    # Each batch begins where the last one ended: what a scan meets before that is index entries of
    # deleted rows, batch by batch more of them, until the database has cleaned up itself.
    low: Any = store.dialect.beginning
    until, left = store.moment(sweep.older_than), sweep.limit or sys.maxsize
    # Most projects have none, and need not be asked batch by batch.
    parts = store.has_parts()
    while low is not None and left > 0:
        began, size = time.monotonic(), min(sweep.batch_size, left)
        edge = store.edge(low, until, size)
        high = until if edge is None else edge
        # Records that expire in the same moment as the last one belong to the window, too.
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
            _pause(_since(began) * _PAUSE if sweep.sleep is None else sweep.sleep)


def clean_up_as_task(using: str, batch_size: int, limit: int | None) -> int:
    """What a task queue calls; ``using`` may be empty. How many records it were."""
    alias = using or router.db_for_write(IdempotencyRecord)
    return clean_up(Upkeep(alias), Sweep(batch_size=batch_size, limit=limit)).deleted


class NotForgottenError(Exception):
    """Records are erased, and the replay cache has not said that their entries count no more."""

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
    """Wipe what one caller's finished records say; how many it were.

    A used key is then refused with 410 until its retention is over. With ``forget`` nothing is
    left, and the key runs anew. Records in progress, and those somebody holds, stay as they are.
    Raises NotForgottenError when that is done, and the replay cache may still answer.
    """
    low: Any = store.dialect.uuid(_FIRST)
    last = store.dialect.uuid(_LAST)
    total, is_forgotten = 0, True
    while low is not None:
        edge = store.scope_edge(scope, low, batch_size)
        high = last if edge is None else edge
        window = (scope, low, high)
        cached = store.ids_of(*window) if has_replays() else []
        total += store.delete_scope(*window, batch_size) if forget else store.erase_scope(*window)
        is_forgotten &= invalidate_replays(store.alias, cached)
        low = edge
        _pause(sleep)
    if not is_forgotten:
        raise NotForgottenError(total)
    return total
