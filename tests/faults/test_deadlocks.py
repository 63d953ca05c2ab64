"""Real deadlocks in views: one view answers, the other's key is free, nothing is half done."""

from threading import Barrier
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order

from . import views
from .crowd import together_at, until_answered
from .urls import there

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.faults.urls"),
    pytest.mark.skipif(
        connection.vendor == "sqlite", reason="SQLite has one lock, which cannot be taken crosswise"
    ),
]

DOORS = there("/transfer/", "/api/transfer/")


class Crossing:
    """Two orders, and two requests that lock them in opposite directions, one key each."""

    def __init__(self, key: str) -> None:
        first, second = (Order.objects.create(nonce=name).pk for name in ("a", "b"))
        self.directions = {
            f"{key}1": f"first={first}&second={second}",
            f"{key}2": f"first={second}&second={first}",
        }

    @property
    def placed(self) -> int:
        """How many orders these two requests have placed."""
        return Order.objects.exclude(nonce__in=["a", "b"]).count()

    def collide(self, door: str, *, keyed: bool = True, **query: str) -> dict[str, Any]:
        """The replies by key; each request takes its first lock before any takes its second."""
        meeting = Barrier(2)

        def meet() -> None:
            if connection.vendor == "postgresql":
                # PostgreSQL looks for a deadlock after this time, which is a second by default.
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL deadlock_timeout = '50ms'")
            meeting.wait(10)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(views, "meet", meet)
            paths = {key: self.path(door, key, **query) for key in self.directions}
            return together_at(paths, keyed=keyed)

    def path(self, door: str, key: str, **query: str) -> str:
        """The path that is requested with a key."""
        more = "".join(f"&{name}={value}" for name, value in query.items())
        return f"{door}?{self.directions[key]}{more}"


@pytest.fixture
def crossing(key: str) -> Crossing:
    """Two orders that are locked in opposite directions."""
    return Crossing(key)


def by_status(replies: dict[str, Any]) -> dict[int, str]:
    """The keys by the status of their replies."""
    return {reply.status_code: key for key, reply in replies.items()}


@pytest.mark.parametrize("door", DOORS)
def test_deadlocked_view_is_undone_and_its_key_free(door: str, crossing: Crossing) -> None:
    """One reply is a 201, the other a 500 whose retry runs; each key has one effect."""
    keys = by_status(crossing.collide(door))
    assert crossing.placed == 1
    assert set(keys) == {201, 500}
    loser = IdempotencyRecord.objects.get(key=keys[500])
    assert (loser.status, loser.error) == (Status.RELEASED, "OperationalError")
    again = until_answered(crossing.path(door, keys[500]), keys[500])
    replay = until_answered(crossing.path(door, keys[201]), keys[201])
    assert crossing.placed == 2
    assert effects.count() == 3
    assert "Idempotent-Replayed" not in again
    assert replay["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("door", DOORS)
def test_view_that_ignores_a_deadlock_saves_nothing(door: str, crossing: Crossing) -> None:
    """InnoDB has rolled back the view's writes, and PostgreSQL will: no 2xx is sent or saved."""
    replies = crossing.collide(door, deadlock="ignore")
    won = [key for key, reply in replies.items() if reply.status_code == 201]
    assert crossing.placed == len(won) == 1
    (lost,) = set(replies) - set(won)
    assert replies[lost].status_code in (409, 500, 503)
    assert IdempotencyRecord.objects.get(key=lost).status != Status.COMPLETED
    until_answered(crossing.path(door, lost, deadlock="ignore"), lost)
    assert crossing.placed == 2
    assert effects.count() == 3


@pytest.mark.parametrize("door", DOORS)
def test_refusal_that_ignores_a_deadlock_is_undone(door: str, crossing: Crossing) -> None:
    """A 401 keeps all of its writes or none, and frees its key."""
    replies = crossing.collide(door, deadlock="ignore", status="401")
    assert crossing.placed == 1
    assert not IdempotencyRecord.objects.filter(status=Status.COMPLETED).exists()
    assert {reply.status_code for reply in replies.values()} <= {401, 409, 500, 503}
    for key in replies:
        path = crossing.path(door, key, deadlock="ignore", status="401")
        until_answered(path, key, status=401)
    assert crossing.placed == 3


@pytest.mark.parametrize("door", DOORS)
def test_view_that_contains_a_deadlock_keeps_what_the_database_kept(
    door: str, crossing: Crossing
) -> None:
    """In a savepoint PostgreSQL keeps the other writes; InnoDB has rolled all of them back."""
    replies = crossing.collide(door, deadlock="savepoint")
    statuses = [reply.status_code for reply in replies.values()]
    assert crossing.placed == statuses.count(201)
    assert statuses.count(201) == (2 if connection.vendor == "postgresql" else 1)
    for key in replies:
        until_answered(crossing.path(door, key, deadlock="savepoint"), key)
    assert crossing.placed == 2
    completed = IdempotencyRecord.objects.filter(status=Status.COMPLETED)
    assert completed.count() == 2
