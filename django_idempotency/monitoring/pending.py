"""Unfinished operations, grouped by the step at which they stand."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Subquery

from ..exceptions import FINAL_ERRORS
from ..models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    StepStatus,
    UtcNow,
)


@dataclass(frozen=True, slots=True)
class Pending:
    """Unfinished operations at the same place: ``after`` one recorded step, ``at`` an open one.

    ``after`` is empty before the first step, ``at`` if no open step is recorded. ``count`` is the
    number of operations: ``given_up`` of them by the completer, and ``clients`` of them without a
    stored request, so that only their clients can finish them. ``age`` is the oldest one's age.
    """

    after: str
    at: str
    status: str
    count: int
    given_up: int
    clients: int
    age: timedelta


# Expired operations are over: the next request with the key begins anew.
_OVER = Q(status=Status.RELEASED, expires_at__lte=UtcNow())


def _unfinished(using: str) -> QuerySet[Any]:
    """Operations in progress or failed that have a stored request, or steps to continue from."""
    failed = Q(status=Status.RELEASED) & ~Q(error__in=("", *FINAL_ERRORS))
    steps = IdempotencyStep.objects.filter(record=OuterRef("pk"))
    envelopes = IdempotencyEnvelope.objects.filter(record=OuterRef("pk"))
    done = steps.filter(status=StepStatus.COMPLETED).order_by("-pk")
    is_open = ~Q(status__in=(StepStatus.COMPLETED, StepStatus.FAILED))
    at = steps.filter(is_open).order_by("-pk")
    return (
        IdempotencyRecord.objects.using(using)
        .filter(Q(status=Status.IN_PROGRESS) | failed)
        .annotate(stored=Exists(envelopes), left=Exists(envelopes.filter(due_at=None)))
        .filter(Q(stored=True) | (Exists(steps) & ~_OVER))
        .annotate(
            after=Subquery(done.values("name")[:1]),
            at=Subquery(at.values("name")[:1]),
            step_status=Subquery(at.values("status")[:1]),
        )
    )


def pending(using: str) -> list[Pending]:
    """The unfinished operations of a database by place, the most frequent place first."""
    rows = (
        _unfinished(using)
        .values("after", "at", "step_status")
        .annotate(
            count=Count("pk"),
            given_up=Count("pk", filter=Q(left=True)),
            clients=Count("pk", filter=Q(stored=False)),
            age=UtcNow() - Min("created_at"),
        )
        .order_by("-count", "after", "at")
    )
    return [
        Pending(
            row["after"] or "",
            row["at"] or "",
            row["step_status"] or "",
            row["count"],
            row["given_up"],
            row["clients"],
            row["age"],
        )
        for row in rows
    ]
