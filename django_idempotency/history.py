"""How often what happened over a time, in steps that make a chart."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Max, Sum
from django.utils import timezone

from .models import IdempotencyCount, UtcNow

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Period:
    """A time up to now, and the width of its steps."""

    span: timedelta
    step: timedelta


#: Between 60 and 170 steps: as many bars as the eye can tell apart.
PERIODS = {
    "hour": Period(timedelta(hours=1), _MINUTE),
    "day": Period(timedelta(days=1), timedelta(minutes=15)),
    "week": Period(timedelta(weeks=1), timedelta(hours=1)),
}


@dataclass(frozen=True, slots=True)
class Series:
    """``times`` are when the steps begin, in Unix seconds; ``counts`` has a number for each."""

    times: list[int]
    counts: dict[str, list[int]]

    def of(self, events: Iterable[str]) -> list[int]:
        """Several events added up."""
        lists = [self.counts[event] for event in events if event in self.counts]
        return [sum(numbers) for numbers in zip(*lists, strict=True)] or [0] * len(self.times)


def series(using: str, period: Period) -> Series:
    """What was counted in one database, step by step."""
    now = timezone.now().timestamp()
    step = int(period.step.total_seconds())
    first = _floor(now - (period.span - _MINUTE).total_seconds(), step)
    times = list(range(first, _floor(now, step) + 1, step))
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(times))
    for event, age, number in _rows(using, period):
        # Ages, because a clock and its time zone are the database's own affair.
        minute = round((now - age.total_seconds()) / 60) * 60
        counts[event][min(max((minute - first) // step, 0), len(times) - 1)] += number
    return Series(times, dict(counts))


def _floor(moment: float, step: int) -> int:
    return int(moment // step) * step


def _rows(using: str, period: Period) -> Iterable[tuple[str, timedelta, int]]:
    recent = IdempotencyCount.objects.using(using).filter(minute__gt=UtcNow() - period.span)
    minutes = recent.values("event", "minute").order_by()
    sums: Any = minutes.annotate(age=UtcNow() - Max("minute"), number=Sum("count"))
    return sums.values_list("event", "age", "number")  # type: ignore[no-any-return]
