"""The figures of the records: by status, by age, by event."""

import os
import uuid
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyCount, IdempotencyRecord, Status, UtcNow
from django_idempotency.monitoring import figures as module
from django_idempotency.monitoring.figures import EventCounts, Figures, figures
from django_idempotency.storage.dialects import PostgreSQL, SQLite

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

HOUR = timedelta(hours=1)
POSTGRESQL = connection.vendor == "postgresql"


def make(status: Status, **columns: Any) -> None:
    """One record, claimed two hours ago with a lease of one, which expires in an hour."""
    answer: dict[str, Any] = {}
    if status is Status.COMPLETED:
        answer = {"response_status": 200, "response_headers": [], "completed_at": UtcNow()}
    IdempotencyRecord.objects.create(
        **{
            "id": uuid.uuid4(),
            "fingerprint": b"f" * 32,
            "status": status,
            "token": uuid.uuid4(),
            "attempts": 1,
            "atomic": True,
            "claimed_at": UtcNow() - 2 * HOUR,
            "lease_expires_at": UtcNow() - HOUR,
            "created_at": UtcNow(),
            "expires_at": UtcNow() + HOUR,
            **answer,
            **columns,
        }
    )


def make_some() -> None:
    """Two completed, one of them expired; one released; three in progress, two of them stale."""
    make(Status.COMPLETED)
    make(Status.COMPLETED, expires_at=UtcNow() - HOUR)
    make(Status.RELEASED, expires_at=UtcNow() + 2 * HOUR)
    make(Status.IN_PROGRESS)
    make(Status.IN_PROGRESS, expires_at=UtcNow() - HOUR, claimed_at=UtcNow() - 3 * HOUR)
    make(Status.IN_PROGRESS, lease_expires_at=UtcNow() + HOUR)


def total(found: Figures) -> int:
    """All records, whatever their status."""
    return found.in_progress + found.completed + found.released


def is_about(duration: timedelta | None, expected: timedelta) -> bool:
    """Give or take a minute, for the test's own time."""
    return duration is not None and abs(duration - expected) < timedelta(minutes=1)


def test_empty_table_has_no_figures() -> None:
    """Zeros, and no ages."""
    found = figures("default")
    assert (total(found), found.stale, found.expired, found.events) == (0, 0, 0, {})
    assert found.oldest_in_progress is None
    assert found.next_expiry is None


def test_records_are_counted_by_status_and_age() -> None:
    """What is in progress never counts as expired, and each database has its own."""
    make_some()
    found = figures("default")
    assert (found.completed, found.released, found.in_progress) == (2, 1, 3)
    assert (found.stale, found.expired) == (2, 1)
    assert is_about(found.oldest_in_progress, 3 * HOUR)
    assert is_about(found.next_expiry, HOUR)
    assert found.estimates == ()
    assert total(figures("other")) == 0


def test_size_is_the_table_s_with_its_indexes() -> None:
    """More than the body that is in it."""
    make(Status.COMPLETED, response_body=os.urandom(65536))
    size = figures("default").table_bytes
    assert size is not None
    # InnoDB's figures lag behind: it may say what an empty table takes.
    assert size >= (16384 if connection.vendor == "mysql" else 65536)


def test_size_that_nobody_tells_is_none() -> None:
    """A SQLite that was built without dbstat."""
    with patch.object(SQLite, "table_bytes", "SELECT 1 FROM no_such_table WHERE 1 = %(table)s"):
        assert connection.vendor != "sqlite" or figures("default").table_bytes is None


def test_events_are_counted_for_hour_day_and_week() -> None:
    """The counts of all processes together."""
    for age, count in ((0, 1), (0, 2), (2, 4), (30, 8), (24 * 7 + 1, 16)):
        IdempotencyCount.objects.create(minute=UtcNow() - age * HOUR, event="replayed", count=count)
    IdempotencyCount.objects.create(minute=UtcNow() - 2 * HOUR, event="failed", count=5)
    assert figures("default").events == {
        "failed": EventCounts(hour=0, day=5, week=5),
        "replayed": EventCounts(hour=3, day=7, week=15),
    }


@pytest.mark.skipif(not POSTGRESQL, reason="only PostgreSQL estimates")
def test_large_table_is_estimated() -> None:
    """From the planner's statistics; the result names the figures that are estimates."""
    make_some()
    # A value that occurs once is none of the planner's common ones.
    make(Status.RELEASED, expires_at=UtcNow() + 2 * HOUR)
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {IdempotencyRecord._meta.db_table}")
    with patch.object(module, "LARGE", 5):
        found, exact = figures("default"), figures("default", exact=True)
    assert (found.completed, found.released, found.in_progress) == (2, 2, 3)
    assert (found.stale, found.expired) == (2, 1)
    assert is_about(found.oldest_in_progress, 3 * HOUR)
    assert is_about(found.next_expiry, HOUR)
    assert set(found.estimates) == {*Status.values, "stale", "oldest_in_progress"}
    assert exact.estimates == ()


@pytest.mark.skipif(not POSTGRESQL, reason="only PostgreSQL estimates")
def test_table_without_statistics_is_counted() -> None:
    """It was never analysed, so the database knows no shares."""
    make_some()
    unknown = PostgreSQL.estimate.replace("s.most_common_vals::text::text[]", "NULL")
    with patch.object(module, "LARGE", -2), patch.object(PostgreSQL, "estimate", unknown):
        assert figures("default").estimates == ()
