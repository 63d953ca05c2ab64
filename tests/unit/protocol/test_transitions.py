"""What each statement of the storage makes of the status of a record: all pairs, on a database."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from django_idempotency.storage.records import Store
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.storage.values import Found, Intent, StoredResponse, Terms

pytestmark = pytest.mark.django_db(transaction=True)

INTENT = Intent(uuid.UUID(int=7), "user:1", "k", b"f" * 32, "POST", "/")
RESPONSE = StoredResponse(201, [], b"cake")
HOUR = timedelta(hours=1)

Running, Completed, Released = Status.IN_PROGRESS, Status.COMPLETED, Status.RELEASED
#: What becomes of a record in progress, completed, released; None: it is deleted.
TRANSITIONS: dict[str, tuple[Status | None, ...]] = {
    "insert": (Running, Completed, Released),
    "take": (Running, Running, Running),
    "lock": (Running, Completed, Released),
    "complete": (Completed, Completed, Released),
    "release": (Released, Completed, Released),
    "release_late": (Released, Completed, Released),
    "free": (Released, Completed, Released),
    "expire": (Running, Completed, Released),
    "erase_scope": (Running, Completed, Released),
    "delete": (Running, None, None),
    "purge": (Running, None, None),
    "delete_scope": (Running, None, None),
}
#: Those that write no record.
OTHERS = {"delete_envelope", "purge_counts"}
QUESTIONS = {
    *("read", "watch", "can_watch", "can_commit", "has_envelope", "is_unfinished", "has_parts"),
    *("connection", "joined", "moment", "edge", "abandoned", "scope_edge", "ids_of"),
}


def terms() -> Terms:
    """A new owner's."""
    return Terms(uuid.uuid4(), 1, atomic=True, lease=HOUR, retention=HOUR)


def settle(store: Upkeep, how: Callable[..., bool], token: uuid.UUID, *more: Any) -> None:
    """What the end of a view's transaction does, with the COMMIT where the database can."""
    with transaction.atomic():
        if not how(INTENT.id, token, *more, locked=False, commit=store.can_commit):
            transaction.set_rollback(True)


def lock(store: Upkeep, token: uuid.UUID) -> None:
    """What the beginning of a view's transaction does."""
    with transaction.atomic():
        store.lock(INTENT.id, token, wait=1.0)


def expire(change: Callable[[], Any]) -> None:
    """Make the change when the record has expired."""
    IdempotencyRecord.objects.update(expires_at=UtcNow() - HOUR)
    change()


def change(name: str, store: Upkeep, found: Found) -> None:
    """Run one statement on a record that is as it was found."""
    low, high = store.dialect.beginning, store.moment(-HOUR)
    first, last = (store.dialect.uuid(uuid.UUID(int=end)) for end in (0, 2**128 - 1))
    changes: dict[str, Callable[[], Any]] = {
        "insert": lambda: store.insert(INTENT, terms()),
        "take": lambda: store.take(INTENT, found, terms(), anew=False),
        "lock": lambda: lock(store, found.token),
        "complete": lambda: settle(store, store.complete, found.token, RESPONSE, HOUR),
        "release": lambda: settle(store, store.release, found.token),
        "release_late": lambda: store.release_late(INTENT.id, found.token, "late"),
        "free": lambda: store.free(INTENT.id, found, "by hand"),
        "expire": lambda: store.expire(INTENT.id),
        "erase_scope": lambda: store.erase_scope(INTENT.scope, first, last),
        "delete": lambda: expire(lambda: store.delete(INTENT.id)),
        "purge": lambda: expire(lambda: store.purge(low, high, 10)),
        "delete_scope": lambda: store.delete_scope(INTENT.scope, first, last, 10),
    }
    changes[name]()


def record_of(status: Status) -> Found:
    """A record with that status, whose owner does not hold it."""
    store = Store("default")
    first = terms()
    store.insert(INTENT, first)
    if status is Completed:
        store.complete(INTENT.id, first.token, RESPONSE, HOUR, locked=False)
    if status is Released:
        store.release_late(INTENT.id, first.token, "ValueError")
    found = store.read(INTENT.id)
    assert found is not None
    assert found.status is status
    return found


@pytest.mark.parametrize("before", Status)
@pytest.mark.parametrize("name", TRANSITIONS)
def test_statement_makes_only_its_transitions(name: str, before: Status) -> None:
    """Any other it refuses, and leaves the record as it was."""
    change(name, Upkeep("default"), record_of(before))
    record = IdempotencyRecord.objects.first()
    after = TRANSITIONS[name][list(Status).index(before)]
    assert (record and record.status) == after


@pytest.mark.parametrize("name", ["take", "free"])
@pytest.mark.parametrize("before", Status)
def test_record_that_changed_since_it_was_read_is_left_alone(name: str, before: Status) -> None:
    """The same owner may have finished meanwhile, or another have begun."""
    found = record_of(before)
    IdempotencyRecord.objects.update(token=uuid.uuid4())
    change(name, Upkeep("default"), found)
    assert IdempotencyRecord.objects.get().status == before
    assert IdempotencyRecord.objects.get().token != found.token


def test_every_statement_is_in_the_table() -> None:
    """A new method of the storage has to say what it does to a status."""
    public = {name for name in dir(Upkeep) if not name.startswith("_")}
    assert public == {*TRANSITIONS, *OTHERS, *QUESTIONS}


def test_no_status_is_a_dead_end() -> None:
    """From each of them a key can run again."""
    nexts = {
        before: {ends[number] for ends in TRANSITIONS.values()}
        for number, before in enumerate(Status)
    }
    assert nexts == {
        Running: {Running, Completed, Released},
        Completed: {Completed, Running, None},
        Released: {Released, Running, None},
    }
