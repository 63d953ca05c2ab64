"""A router that reads from a lagging replica: the protocol asks the primary only."""

from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import Post, atomic_requests_on

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("replica"),
]

DOORS = served("/function/", "/mixin/")
ON_PRIMARY = IdempotencyRecord.objects.using("default")
_UNANSWERED = dict.fromkeys(
    ["response_status", "response_headers", "response_body", "completed_at"]
)


@pytest.fixture
def replica(settings: Settings) -> Iterator[None]:
    """Reads are routed to an empty database; a statement that is sent there fails the test."""
    asked: list[str] = []

    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        asked.append(sql)
        return execute(sql, params, many, context)

    settings.DATABASE_ROUTERS = ["tests.faults.routers.LaggingReplica"]
    with connections["other"].execute_wrapper(refuse):
        yield
    assert asked == []


def orders() -> int:
    """How many orders there are on the primary."""
    return Order.objects.using("default").count()


def make(**values: Any) -> None:
    """Change the only record, which is on the primary."""
    assert ON_PRIMARY.update(**values) == 1


@pytest.mark.parametrize("door", DOORS)
def test_reply_saved_on_the_primary_is_replayed(door: str, key: str, post: Post) -> None:
    """The replica does not have the record, and is not asked."""
    first, second = post(door, key), post(door, key)
    assert orders() == effects.count() == 1
    assert second.content == first.content
    assert second["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("door", DOORS)
def test_running_request_refuses_its_duplicate(door: str, key: str, post: Post) -> None:
    """According to the replica the key would be free."""
    post(door, key)
    # It stays young for as long as a slow machine needs.
    make(status=Status.IN_PROGRESS, claimed_at=UtcNow() + timedelta(seconds=10), **_UNANSWERED)
    assert post(door, key).status_code == 409
    assert orders() == effects.count() == 1


@pytest.mark.parametrize("door", DOORS)
def test_other_request_with_the_key_is_refused(door: str, key: str, post: Post) -> None:
    """The fingerprint is compared with the primary's."""
    post(door, key)
    assert post(door, key, body={"cake": "plum"}).status_code == 422
    assert orders() == effects.count() == 1


@pytest.mark.parametrize("door", DOORS)
def test_dead_owner_is_found_on_the_primary(door: str, key: str, post: Post) -> None:
    """The age of the claim and its lock are on the primary."""
    post(door, key)
    make(status=Status.IN_PROGRESS, claimed_at=UtcNow() - timedelta(minutes=1), **_UNANSWERED)
    assert post(door, key).status_code == 201
    assert orders() == effects.count() == 2
    assert ON_PRIMARY.get().attempts == 2


@pytest.mark.parametrize("door", DOORS)
def test_failed_attempt_frees_the_key_on_the_primary(door: str, key: str, post: Post) -> None:
    """The release goes to the primary under ATOMIC_REQUESTS, too."""
    with atomic_requests_on("default"):
        assert post(door, key, act="crash").status_code == 500
        assert ON_PRIMARY.get().status == Status.RELEASED
        assert post(door, key, act="crash").status_code == 500
    assert effects.count() == 2
    assert orders() == 0


def test_expired_record_is_cleaned_up_on_the_primary(key: str, post: Post) -> None:
    """A command that counted on the replica would find nothing to do."""
    post("/function/", key)
    make(expires_at=UtcNow() - timedelta(hours=1))
    call_command("cleanup_idempotency", stdout=StringIO())
    assert not ON_PRIMARY.exists()
    assert post("/function/", key).status_code == 201
    assert orders() == effects.count() == 2
