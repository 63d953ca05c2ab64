"""Figures of one database's records, and series of what happened, for people and for monitoring.

Nothing is written. Every time is taken from the database's clock.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, connections
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from ..models import IdempotencyCount, IdempotencyRecord, RecordQuerySet, Status, UtcNow
from ..storage.dialects import Dialect, dialect_of

#: With more records than this, PostgreSQL's own estimates are taken: it counts a million in a
#: fraction of a second, and a page should not take longer.
LARGE = 1_000_000
_MINUTE = timedelta(minutes=1)
_TABLE = IdempotencyRecord._meta.db_table
_IN_PROGRESS = Q(status=Status.IN_PROGRESS)
_STALE = _IN_PROGRESS & Q(lease_expires_at__lte=UtcNow(), attempts__gt=0)


@dataclass(frozen=True, slots=True)
class Period:
    """A span of time that ends now, and the length of its steps."""

    span: timedelta
    step: timedelta


#: Between 60 and 170 steps, as many bars as a chart can show.
PERIODS = {
    "hour": Period(timedelta(hours=1), _MINUTE),
    "day": Period(timedelta(days=1), timedelta(minutes=15)),
    "week": Period(timedelta(weeks=1), timedelta(hours=1)),
}


@dataclass(frozen=True, slots=True)
class EventCounts:
    """How often one thing happened in the last hour, day and week."""

    hour: int
    day: int
    week: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The records of one database alias.

    ``stale`` records are in progress although their lease is over. ``oldest_in_progress`` is how
    long ago the oldest claim in progress was made. ``expired`` records wait for the clean-up, and
    ``next_expiry`` is the time until the next one expires. ``table_bytes`` is the size of the table
    with its indexes, None if the database cannot say. ``events`` are the counts by event.

    ``estimates`` names the figures that are the database's estimates, or lower bounds because only
    the :data:`LARGE` records that expire first were counted.
    """

    in_progress: int
    completed: int
    released: int
    stale: int
    oldest_in_progress: timedelta | None
    expired: int
    next_expiry: timedelta | None
    table_bytes: int | None
    events: dict[str, EventCounts]
    estimates: tuple[str, ...] = ()


def figures(alias: str, *, exact: bool = False) -> Figures:
    """The figures of one database.

    On PostgreSQL, the figures of more than :data:`LARGE` records are estimates unless ``exact``.
    Elsewhere all records are counted, which takes long if there are many.
    """
    dialect = dialect_of(connections[alias])
    records = IdempotencyRecord.objects.using(alias)
    estimate = {} if exact else _estimate(alias, dialect)
    counted = _bounded(records, estimate) if estimate else _exact(records)
    return Figures(table_bytes=_table_bytes(alias, dialect), events=_events(alias), **counted)


def _exact(records: RecordQuerySet) -> dict[str, Any]:
    waiting = ~_IN_PROGRESS & Q(expires_at__gt=UtcNow())
    return records.aggregate(
        **{status: Count("pk", filter=Q(status=status)) for status in Status.values},
        **_running(),
        expired=Count("pk", filter=~_IN_PROGRESS & Q(expires_at__lte=UtcNow())),
        next_expiry=Min("expires_at", filter=waiting) - UtcNow(),
    )


def _running() -> dict[str, Any]:
    return {
        "stale": Count("pk", filter=_STALE),
        "oldest_in_progress": UtcNow() - Min("claimed_at", filter=_IN_PROGRESS),
    }


def _bounded(records: RecordQuerySet, estimate: dict[str, int]) -> dict[str, Any]:
    """The figures that the index on ``expires_at`` gives without reading every record."""
    first = records.order_by("expires_at")[:LARGE]
    coming = records.exclude(_IN_PROGRESS).filter(expires_at__gt=UtcNow()).order_by("expires_at")
    expired = records.expired()[:LARGE].count()
    return {
        **estimate,
        **first.aggregate(**_running()),
        "expired": expired,
        "next_expiry": coming.values_list(F("expires_at") - UtcNow(), flat=True).first(),
        "estimates": (*estimate, *_running(), *(["expired"] if expired == LARGE else [])),
    }


def _estimate(alias: str, dialect: Dialect) -> dict[str, int]:
    """The estimated number of records by status; empty if they are few enough to count."""
    if not dialect.estimate:
        return {}
    with connections[alias].cursor() as cursor:
        cursor.execute(dialect.estimate, {"table": _TABLE})
        rows, statuses, shares = cursor.fetchone()
    if rows <= LARGE or statuses is None:
        return {}
    share = dict(zip(statuses, shares, strict=True))
    return {status: round(rows * share.get(status, 0)) for status in Status.values}


def _table_bytes(alias: str, dialect: Dialect) -> int | None:
    try:
        with connections[alias].cursor() as cursor:
            cursor.execute(dialect.table_bytes, {"table": _TABLE})
            row = cursor.fetchone()
    except DatabaseError:
        # SQLite is often built without dbstat (https://sqlite.org/dbstat.html).
        return None
    return None if row is None or row[0] is None else int(row[0])


def _events(alias: str) -> dict[str, EventCounts]:
    sums = {
        name: Coalesce(Sum("count", filter=Q(minute__gt=UtcNow() - period.span)), 0)
        for name, period in PERIODS.items()
    }
    rows: Any = _recent(alias, PERIODS["week"]).values("event").order_by("event").annotate(**sums)
    return {row.pop("event"): EventCounts(**row) for row in rows}


def _recent(alias: str, period: Period) -> QuerySet[IdempotencyCount]:
    return IdempotencyCount.objects.using(alias).filter(minute__gt=UtcNow() - period.span)


@dataclass(frozen=True, slots=True)
class Series:
    """``times`` are the steps' beginnings in Unix seconds; ``counts`` has a number for each."""

    times: list[int]
    counts: dict[str, list[int]]

    def of(self, events: Iterable[str]) -> list[int]:
        """The numbers of several events, added up step by step."""
        lists = [self.counts[event] for event in events if event in self.counts]
        return [sum(numbers) for numbers in zip(*lists, strict=True)] or [0] * len(self.times)


def series(using: str, period: Period) -> Series:
    """The events of one database over a period, counted step by step."""
    now = timezone.now().timestamp()
    step = int(period.step.total_seconds())
    first = _floor(now - (period.span - _MINUTE).total_seconds(), step)
    times = list(range(first, _floor(now, step) + 1, step))
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(times))
    for event, age, number in _rows(using, period):
        # Ages do not depend on the database's time zone, nor on its clock being right.
        minute = round((now - age.total_seconds()) / 60) * 60
        counts[event][min(max((minute - first) // step, 0), len(times) - 1)] += number
    return Series(times, dict(counts))


def _floor(moment: float, step: int) -> int:
    return int(moment // step) * step


def _rows(using: str, period: Period) -> Iterable[tuple[str, timedelta, int]]:
    minutes = _recent(using, period).values("event", "minute").order_by()
    sums: Any = minutes.annotate(age=UtcNow() - Max("minute"), number=Sum("count"))
    return sums.values_list("event", "age", "number")  # type: ignore[no-any-return]
