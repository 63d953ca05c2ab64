"""Several databases: ``using`` names the one of the record and of the view's transaction."""

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.app.models import Order
from tests.conftest import atomic_requests_on

from .crowd import ask

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls("tests.faults.urls"),
]

#: By alias and by a callable.
DOORS = ["/elsewhere/", "/tenant/"]
ATOMIC_REQUESTS = pytest.mark.parametrize(
    "atomic_aliases",
    [(), ("default",), ("other",), ("default", "other")],
    ids=["autocommit", "default", "other", "both"],
)
RECORDS = IdempotencyRecord.objects.using("other")
ORDERS = Order.objects.using("other")


def order(door: str, key: str | None, *, act: str = "order", status: int = 201) -> Any:
    """Send a request of a caller whose data are in the other database."""
    return ask(f"{door}?act={act}&status={status}", key, **{"X-Tenant": "other"})


@ATOMIC_REQUESTS
@pytest.mark.parametrize("door", DOORS)
def test_record_and_order_are_committed_elsewhere_together(
    door: str, atomic_aliases: tuple[str, ...], key: str
) -> None:
    """They share one transaction there; the default database is not asked."""
    with atomic_requests_on(*atomic_aliases), CaptureQueriesContext(connections["default"]) as here:
        first, second = order(door, key), order(door, key)
    assert ORDERS.count() == effects.count() == 1
    assert RECORDS.get().status == Status.COMPLETED
    assert not IdempotencyRecord.objects.exists()
    assert not Order.objects.exists()
    assert first.status_code == 201
    assert second.content == first.content
    assert second["Idempotent-Replayed"] == "true"
    assert [q["sql"] for q in here if not q["sql"].startswith(("BEGIN", "COMMIT"))] == []


@ATOMIC_REQUESTS
@pytest.mark.parametrize("with_key", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("door", DOORS)
def test_failing_commit_elsewhere_leaves_nothing(
    door: str, with_key: bool, atomic_aliases: tuple[str, ...], key: str
) -> None:
    """A foreign key fails at COMMIT, or before: there is no order, and the key is free."""
    with atomic_requests_on(*atomic_aliases):
        for runs in (1, 2):
            reply = order(door, key if with_key else None, act="homeless")
            assert not ORDERS.exists()
            assert effects.count() == runs
            assert reply.status_code == 500
    assert [record.status for record in RECORDS.all()] == ([Status.RELEASED] if with_key else [])
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("door", DOORS)
def test_other_answers_are_given_elsewhere_too(door: str, key: str) -> None:
    """Release, mismatch, takeover and clean-up use the other database, too."""
    assert order(door, key, status=401).status_code == 401
    assert RECORDS.get().status == Status.RELEASED
    assert order(door, key).status_code == 201
    assert order(door, key, status=200).status_code == 422
    RECORDS.update(expires_at=UtcNow() - timedelta(hours=1))
    call_command("cleanup_idempotency", stdout=StringIO())
    assert RECORDS.count() == 1
    call_command("cleanup_idempotency", database="other", stdout=StringIO())
    assert RECORDS.count() == 0
    assert ORDERS.count() == effects.count() == 2


def test_one_key_in_two_databases_is_two_operations(key: str) -> None:
    """A callable that names another alias looks for the record there."""
    replies = [ask("/tenant/", key, **{"X-Tenant": alias}) for alias in ("default", "other")]
    assert (Order.objects.count(), ORDERS.count()) == (1, 1)
    assert [reply.status_code for reply in replies] == [201, 201]
    assert not any("Idempotent-Replayed" in reply for reply in replies)


@ATOMIC_REQUESTS
@pytest.mark.parametrize("act", ["homeless", "homeless-here"])
def test_failing_commit_of_either_database_is_never_replayed(
    act: str, atomic_aliases: tuple[str, ...], key: str
) -> None:
    """The record's database commits last: no reply is saved, whichever of the two fails."""
    with atomic_requests_on(*atomic_aliases):
        for runs in (1, 2):
            reply = order("/both/", key, act=act)
            assert not ORDERS.exists()
            assert effects.count() >= runs
            assert reply.status_code == 500
            assert "Idempotent-Replayed" not in reply
    assert RECORDS.get().status == Status.RELEASED


@ATOMIC_REQUESTS
def test_view_that_writes_in_both_databases_is_replayed(
    atomic_aliases: tuple[str, ...], key: str
) -> None:
    """Each database has one order."""
    with atomic_requests_on(*atomic_aliases):
        first, second = order("/both/", key), order("/both/", key)
    assert (Order.objects.count(), ORDERS.count()) == (1, 1)
    assert first.status_code == 201
    assert second["Idempotent-Replayed"] == "true"
