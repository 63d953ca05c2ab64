"""Clean-up, erasure and deletion take an operation with all its parts, or not at all."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.maintenance.cleanup import Sweep, clean_up, erase
from django_idempotency.maintenance.records import delete
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    StepKind,
    StepStatus,
)
from django_idempotency.storage.upkeep import Upkeep
from tests.concurrency.owners import in_thread
from tests.conftest import Post
from tests.settings import ISOLATION
from tests.support.stage import ON_STAGE, bake, completed, expire, fails_first, outcome, plays, runs

pytestmark = ON_STAGE

NOW = datetime.now(UTC)
SCOPE = "user:1"
MODELS = (IdempotencyRecord, IdempotencyStep, IdempotencyEnvelope)
needs_row_locks = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has one lock, for which a clean-up waits"
)


def made(
    status: Status = Status.RELEASED,
    *,
    steps: int = 0,
    stored: bool = False,
    expired: bool = True,
    **values: Any,
) -> uuid.UUID:
    """An operation; its lease is over."""
    answer: dict[str, Any] = {}
    if status is Status.COMPLETED:
        answer = {"response_status": 201, "response_headers": [], "completed_at": NOW}
    record = IdempotencyRecord.objects.create(
        pk=uuid.uuid4(),
        **{
            "scope": SCOPE,
            "key": uuid.uuid4().hex,
            "fingerprint": b"f" * 32,
            "status": status,
            "token": uuid.uuid4(),
            "attempts": 1,
            "atomic": False,
            "created_at": NOW,
            "claimed_at": NOW,
            "lease_expires_at": NOW - timedelta(hours=1),
            "expires_at": NOW + timedelta(hours=-1 if expired else 1),
            **answer,
            **values,
        },
    )
    for number in range(steps):
        step_of(record.pk, f"step {number}")
    if stored:
        envelope_of(record.pk)
    return record.pk


def step_of(record: uuid.UUID, name: str = "late") -> None:
    """The record gets a step."""
    IdempotencyStep.objects.create(
        record_id=record,
        name=name,
        kind=StepKind.STEP,
        status=StepStatus.COMPLETED,
        attempt=1,
        input_digest=b"d" * 32,
        output=b"secret",
        token=uuid.uuid4(),
        started_at=NOW,
    )


def envelope_of(record: uuid.UUID) -> None:
    """The record gets a stored request."""
    IdempotencyEnvelope.objects.create(
        record_id=record, user_id="1", request=b"secret", tries=0, created_at=NOW, due_at=NOW
    )


def kept(pk: uuid.UUID) -> tuple[int, int, int]:
    """How many records, steps and envelopes there are of an operation."""
    return (
        IdempotencyRecord.objects.filter(pk=pk).count(),
        IdempotencyStep.objects.filter(record_id=pk).count(),
        IdempotencyEnvelope.objects.filter(record_id=pk).count(),
    )


@pytest.fixture(autouse=True)
def _no_orphans() -> Iterator[None]:
    """After each test, every step and envelope belongs to a record."""
    yield
    records = set(IdempotencyRecord.objects.values_list("pk", flat=True))
    for model in (IdempotencyStep, IdempotencyEnvelope):
        assert set(model.objects.values_list("record_id", flat=True)) <= records


@pytest.fixture
def store() -> Upkeep:
    """The records of the default database."""
    return Upkeep("default")


@pytest.mark.parametrize("batch_size", [1, 3, 2000])
def test_clean_up_takes_finished_operations_with_all_their_parts(
    batch_size: int, store: Upkeep
) -> None:
    """Operations that can still be finished stay with all their parts, however old they are."""
    operations = {
        (status, steps, stored, expired): made(status, steps=steps, stored=stored, expired=expired)
        for status, steps, stored, expired in product(Status, (0, 2), (False, True), (False, True))
    }
    swept = clean_up(store, Sweep(batch_size=batch_size, sleep=timedelta()))
    for (status, steps, stored, expired), pk in operations.items():
        is_finished = status is Status.COMPLETED or not stored
        goes = expired and status is not Status.IN_PROGRESS and is_finished
        assert kept(pk) == ((0, 0, 0) if goes else (1, steps, stored)), (status, steps, stored)
    assert swept.deleted == 6
    assert swept.abandoned == 4


def test_clean_up_of_many_steps_is_one_of_records(store: Upkeep) -> None:
    """The size of a batch counts records."""
    times = [NOW - timedelta(hours=10 - number) for number in range(10)]
    pks = [made(steps=20, expires_at=moment) for moment in times]
    deleted: list[int] = []
    clean_up(store, Sweep(batch_size=4, limit=6, sleep=timedelta()), deleted.append)
    assert deleted == [4, 2]
    assert [kept(pk) for pk in pks] == [(0, 0, 0)] * 6 + [(1, 20, 0)] * 4


def test_operation_that_is_cleaned_up_begins_anew(key: str, post: Post, store: Upkeep) -> None:
    """Its old steps are gone."""
    plays(fails_first(lambda op: op.step("ride", bake)))
    assert post("/plain/", key).status_code == 500
    expire()
    assert clean_up(store, Sweep()).deleted == 1
    assert outcome(post("/plain/", key))
    assert runs("bake lemon") == 2


def test_unfinished_operation_is_finished_after_a_clean_up(
    key: str, post: Post, store: Upkeep
) -> None:
    """The clean-up leaves its steps and its stored request."""
    plays(fails_first(lambda op: op.step("ride", bake)))
    assert post("/kept/", key).status_code == 500
    expire()
    assert clean_up(store, Sweep()).deleted == 0
    assert completed() == ["completed"]
    assert runs("bake lemon") == 1
    expire()
    assert clean_up(store, Sweep()).deleted == 1


@pytest.mark.parametrize("forget", [False, True], ids=["erase", "forget"])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_erased_operations_lose_their_parts(forget: bool, batch_size: int, store: Upkeep) -> None:
    """Outputs and stored requests, which hold personal data, go; other operations stay."""
    mine = [
        made(status, steps=steps, stored=stored, expired=False)
        for status in (Status.COMPLETED, Status.RELEASED)
        for steps in (0, 2)
        for stored in (False, True)
    ]
    running = made(Status.IN_PROGRESS, steps=2, stored=True, expired=False)
    other = made(steps=2, stored=True, expired=False, scope="user:2")
    assert erase(store, SCOPE, forget=forget, batch_size=batch_size) == len(mine)
    for pk in mine:
        assert kept(pk) == (0 if forget else 1, 0, 0)
    assert kept(running) == kept(other) == (1, 2, 1)
    assert completed().count("gone") == 0


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("expired", [False, True])
def test_operation_is_deleted_with_its_parts(expired: bool, status: Status, store: Upkeep) -> None:
    """A person may delete an unfinished operation, too; one that is live stays as it is."""
    pk = made(status, steps=2, stored=True, expired=expired)
    goes = expired and status is not Status.IN_PROGRESS
    assert delete(store, [pk]) == ([pk] if goes else [])
    assert kept(pk) == ((0, 0, 0) if goes else (1, 2, 1))


def test_records_that_django_deletes_take_their_parts_along() -> None:
    """A project's own code may delete records through the ORM."""
    made(steps=2, stored=True)
    IdempotencyRecord.objects.all().delete()
    assert [model.objects.count() for model in MODELS] == [0, 0, 0]


@contextmanager
def held(pk: uuid.UUID) -> Iterator[BaseDatabaseWrapper]:
    """Another connection that holds the record's row lock."""
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            table = other.ops.quote_name(IdempotencyRecord._meta.db_table)
            identity = pk.hex if connection.vendor != "postgresql" else pk
            cursor.execute(f"UPDATE {table} SET path = 'held' WHERE id = %s", [identity])
        yield other
    finally:
        other.rollback()
        other.close()


MAINTENANCE: dict[str, Callable[[Upkeep, uuid.UUID], Any]] = {
    "clean-up": lambda store, pk: clean_up(store, Sweep(sleep=timedelta())).deleted,
    "delete": lambda store, pk: len(delete(store, [pk])),
    "erase": lambda store, pk: erase(store, SCOPE),
    "forget": lambda store, pk: erase(store, SCOPE, forget=True),
}


@needs_row_locks
@pytest.mark.parametrize("maintain", MAINTENANCE.values(), ids=MAINTENANCE)
def test_operation_that_is_locked_keeps_its_parts(maintain: Any, store: Upkeep) -> None:
    """It is left for the next time without waiting; the others go."""
    pk = made(Status.COMPLETED, steps=2, stored=True)
    other = made(Status.COMPLETED, steps=2, stored=True)
    with held(pk):
        done = maintain(store, pk)
        assert kept(pk) == (1, 2, 1)
        assert done == (0 if maintain is MAINTENANCE["delete"] else 1)
        assert IdempotencyStep.objects.filter(record_id=other).count() == (
            2 if maintain is MAINTENANCE["delete"] else 0
        )
    maintain(store, pk)
    assert kept(pk)[1:] == (0, 0)


@needs_row_locks
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("maintain", MAINTENANCE.values(), ids=MAINTENANCE)
def test_operation_that_is_unlocked_in_between_keeps_its_record(
    maintain: Any, number: int, store: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is held while parts are deleted, and released before its own statement."""
    pk = made(Status.COMPLETED, steps=2, stored=True)
    original = Upkeep._execute
    words = store._upkeep_texts
    parts = {*words.delete_parts, *words.purge_parts, *words.scope_parts}
    seen: list[str] = []
    with held(pk) as other:

        def execute(self: Upkeep, text: str, params: Any) -> int:
            done = original(self, text, params)
            if text in parts:
                seen.append(text)
            if len(seen) == number:
                other.rollback()
            return done

        monkeypatch.setattr(Upkeep, "_execute", execute)
        maintain(store, pk)
        monkeypatch.undo()
    assert len(seen) >= 2
    # Neither deleted nor erased.
    assert IdempotencyRecord.objects.get().fingerprint
    maintain(store, pk)
    assert kept(pk)[1:] == (0, 0)


@needs_row_locks
@pytest.mark.skipif(
    connection.vendor == "mysql" and ISOLATION not in ("", "read committed"),
    reason="a late part waits for the gap that InnoDB locks above READ COMMITTED",
)
@pytest.mark.parametrize("maintain", MAINTENANCE.values(), ids=MAINTENANCE)
@pytest.mark.parametrize("part", [step_of, envelope_of], ids=["step", "envelope"])
def test_part_that_comes_in_between_keeps_its_record(
    part: Any, maintain: Any, store: Upkeep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was believed dead adds a part just before the record's statement."""
    pk = made(Status.COMPLETED)
    original = Upkeep._execute
    words = store._upkeep_texts
    records = {words.delete, words.purge, words.purge_bare, words.erase_scope, words.delete_scope}
    added: list[str] = []

    def execute(self: Upkeep, text: str, params: Any) -> int:
        if text in records and not added:
            added.append(text)
            with ThreadPoolExecutor(1) as pool:
                in_thread(pool, lambda: part(pk)).result()
        return original(self, text, params)

    monkeypatch.setattr(Upkeep, "_execute", execute)
    maintain(store, pk)
    assert added
