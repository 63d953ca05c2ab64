"""``manage.py idempotency_status``: figures for people and for programs."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from django_idempotency.models import IdempotencyCount, Status, UtcNow

from . import HOUR, facts, make, run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_status_says_how_things_stand() -> None:
    """In words."""
    make(2)
    make(status=Status.IN_PROGRESS)
    IdempotencyCount.objects.create(minute=UtcNow(), event="replayed", count=7)
    lines = run("idempotency_status").splitlines()
    said = {line[:24].strip(): line[24:].strip() for line in lines[:8]}
    assert said["completed"] == said["expired, not cleaned up"] == "2"
    assert said["in progress"] == said["in progress, lease over"] == "1"
    assert said["in progress since"].startswith("2:00:0")
    assert said["next expires in"] == "-"
    assert lines[-1].split() == ["replayed", "7", "7", "7"]


def test_status_tells_programs_the_same() -> None:
    """Times in seconds."""
    make(using="other", expires_at=UtcNow() + HOUR)
    said = facts("idempotency_status", "--database", "other", "--exact")
    assert (said["database"], said["completed"], said["stale"]) == ("other", 1, 0)
    assert 3500 < said["next_expiry"] <= 3600
    assert said["oldest_in_progress"] is None
    assert said["estimates"] == []


def test_status_fails_where_too_many_are_stale() -> None:
    """For monitoring; the figures are there all the same."""
    make(2, status=Status.IN_PROGRESS)
    assert run("idempotency_status", "--fail-if-stale", "3")
    output = StringIO()
    with pytest.raises(CommandError, match="2 records are stale") as failed:
        call_command("idempotency_status", "--fail-if-stale", "2", stdout=output)
    assert failed.value.returncode == 1
    assert "in progress, lease over   2" in output.getvalue()
