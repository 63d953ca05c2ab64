"""The protocol on rows built directly: take over, claim again, recycle, join, release late."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from django_idempotency.exceptions import (
    AttemptsExhaustedError,
    InProgressError,
    KeyReusedError,
    TransitionError,
)
from django_idempotency.maintenance.cleanup import Sweep, clean_up
from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from django_idempotency.policy import Policy
from django_idempotency.protocol.claims import Claim
from django_idempotency.protocol.waiting import obtain
from django_idempotency.storage.records import Store
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.storage.values import Intent, StoredResponse

pytestmark = pytest.mark.django_db(transaction=True)

RESPONSE = StoredResponse(201, [("Content-Type", "text/plain")], b"cake")
ANSWER = {
    "status": Status.COMPLETED,
    "response_status": 201,
    "response_headers": [["Content-Type", "text/plain"]],
    "response_body": b"cake",
    "completed_at": UtcNow(),
}
PAST = UtcNow() - timedelta(seconds=1)
LONG_AGO = UtcNow() - timedelta(days=2)


@pytest.fixture
def store() -> Store:
    """The default database."""
    return Store("default")


@pytest.fixture
def intent() -> Intent:
    """A request nobody has made."""
    return Intent(uuid.uuid4(), "user:1", "k", b"f" * 32, "POST", "/orders/")


def other(intent: Intent) -> Intent:
    """Another request with the same key."""
    return Intent(intent.id, "user:1", "k", b"o" * 32, "POST", "/orders/")


def claimed(store: Store, intent: Intent, **options: Any) -> Claim:
    """The claim; the test fails without one."""
    claim = obtain(store, intent, Policy(**options))
    assert isinstance(claim, Claim)
    return claim


def set_row(intent: Intent, **values: Any) -> None:
    """Make the row what a test needs, without waiting until it becomes that."""
    assert IdempotencyRecord.objects.filter(pk=intent.id).update(**values) == 1


def complete(claim: Claim) -> None:
    """What a view's transaction does."""
    with transaction.atomic():
        claim.lock()
        claim.complete(RESPONSE)


def test_second_claim_is_in_progress(store: Store, intent: Intent) -> None:
    """A young claim is left alone."""
    claimed(store, intent)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy())


def test_completed_record_replays(store: Store, intent: Intent) -> None:
    """Status, headers and bytes."""
    complete(claimed(store, intent))
    assert obtain(store, intent, Policy()) == RESPONSE


@pytest.mark.parametrize("state", [{}, ANSWER], ids=["in_progress", "completed"])
def test_other_fingerprint_is_refused(state: dict[str, Any], store: Store, intent: Intent) -> None:
    """In progress and completed alike."""
    claimed(store, intent)
    set_row(intent, attempts=1, **state)
    with pytest.raises(KeyReusedError):
        obtain(store, other(intent), Policy())


def test_abandoned_claim_is_taken_over(store: Store, intent: Intent) -> None:
    """A new token fences the old owner off; attempts count on."""
    late = claimed(store, intent)
    set_row(intent, claimed_at=PAST)
    claim = claimed(store, intent)
    assert claim.terms.attempts == 2
    assert claim.terms.token != late.terms.token
    with transaction.atomic(), pytest.raises(TransitionError):
        late.lock()
    with pytest.raises(TransitionError):
        late.complete(RESPONSE)
    with pytest.raises(TransitionError):
        late.release()
    assert not late.release_late("late")
    complete(claim)


def test_grace_doubles_with_each_attempt(store: Store, intent: Intent) -> None:
    """Otherwise eager duplicates would fence each other off for ever."""
    claimed(store, intent)
    set_row(intent, claimed_at=PAST, attempts=5)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy())
    set_row(intent, claimed_at=UtcNow() - timedelta(seconds=4.1))
    assert claimed(store, intent).terms.attempts == 6


def test_lease_decides_where_no_lock_vouches(store: Store, intent: Intent) -> None:
    """With ``atomic=False`` the age of a claim says nothing."""
    claimed(store, intent, atomic=False)
    set_row(intent, claimed_at=PAST)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy())
    set_row(intent, lease_expires_at=PAST)
    assert claimed(store, intent).terms.attempts == 2


def test_in_progress_never_expires(store: Store, intent: Intent) -> None:
    """Status first: retention is for finished records."""
    claimed(store, intent, atomic=False)
    set_row(intent, expires_at=LONG_AGO, claimed_at=LONG_AGO)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy())
    assert clean_up(Upkeep("default"), Sweep()).deleted == 0


def test_young_claim_is_left_alone_when_its_retention_is_over(store: Store, intent: Intent) -> None:
    """A retention shorter than the view: the owner lives."""
    claimed(store, intent)
    set_row(intent, expires_at=PAST)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy())


@pytest.mark.parametrize("other_request", [False, True])
def test_expired_record_is_recycled(other_request: bool, store: Store, intent: Intent) -> None:
    """A new life takes any request as its first attempt; nothing is left of the old response."""
    claimed(store, intent)
    set_row(intent, **ANSWER, expires_at=PAST, created_at=LONG_AGO, attempts=3)
    claim = claimed(store, other(intent) if other_request else intent)
    record = IdempotencyRecord.objects.get()
    assert claim.terms.attempts == 1
    assert record.status == Status.IN_PROGRESS
    assert record.response_body is None
    assert IdempotencyRecord.objects.filter(created_at__gt=PAST).exists()


def test_released_record_is_claimed_again(store: Store, intent: Intent) -> None:
    """A corrected request may use the same key if the failed attempt left nothing."""
    assert claimed(store, intent).release_late("ValueError")
    assert IdempotencyRecord.objects.get().error == "ValueError"
    assert claimed(store, intent).terms.attempts == 2
    assert claimed_after_release(store, intent).terms.attempts == 1


def claimed_after_release(store: Store, intent: Intent) -> Claim:
    """Release the record, and claim it for another request."""
    set_row(intent, status=Status.RELEASED)
    return claimed(store, other(intent))


def test_released_attempt_that_was_no_transaction_keeps_its_request(
    store: Store, intent: Intent
) -> None:
    """It may have left traces of what it was asked."""
    claimed(store, intent, atomic=False).release_late("ValueError")
    with pytest.raises(KeyReusedError):
        obtain(store, other(intent), Policy())


def test_release_with_the_writes_does_not_count_as_an_attempt(store: Store, intent: Intent) -> None:
    """A 401 is no failure of the operation."""
    claim = claimed(store, intent)
    with transaction.atomic():
        claim.lock()
        claim.release()
    assert claimed(store, intent, max_attempts=1).terms.attempts == 1


def test_attempts_run_out(store: Store, intent: Intent) -> None:
    """A released record is refused without a write; another request starts to count anew."""
    for _ in range(2):
        claimed(store, intent, max_attempts=2).release_late("ValueError")
    with pytest.raises(AttemptsExhaustedError):
        obtain(store, intent, Policy(max_attempts=2))
    assert claimed(store, other(intent), max_attempts=2).terms.attempts == 1


def test_attempts_run_out_by_dying(store: Store, intent: Intent) -> None:
    """The lock tells that the last owner is dead; the record remembers it."""
    claimed(store, intent, max_attempts=1)
    set_row(intent, claimed_at=PAST)
    for _ in range(2):
        with pytest.raises(AttemptsExhaustedError):
            obtain(store, intent, Policy(max_attempts=1))
    assert IdempotencyRecord.objects.get().status == Status.RELEASED


def test_late_release_never_overwrites_a_completed_record(store: Store, intent: Intent) -> None:
    """It is guarded by the status, too."""
    claim = claimed(store, intent)
    complete(claim)
    assert not claim.release_late("OperationalError")
    assert obtain(store, intent, Policy()) == RESPONSE


@pytest.mark.parametrize(
    "settle",
    [partial(Claim.complete, response=RESPONSE), Claim.release],
    ids=["complete", "release"],
)
def test_settling_a_lost_claim_commits_nothing(
    settle: Callable[..., None], store: Store, intent: Intent
) -> None:
    """Not even where the COMMIT travels with the statement: the writes are rolled back."""
    claim = claimed(store, intent)

    @transaction.atomic
    def lose() -> None:
        claim.lock()
        set_row(intent, token=uuid.uuid4())
        settle(claim, commit=claim.can_commit)

    with pytest.raises(TransitionError):
        lose()
    assert IdempotencyRecord.objects.get().token == claim.terms.token


def test_completion_keeps_the_promised_retention(store: Store, intent: Intent) -> None:
    """A view longer than its lease still answers for the whole retention."""
    claim = claimed(store, intent, retention=timedelta(hours=1))
    before = IdempotencyRecord.objects.get().expires_at
    complete(claim)
    assert IdempotencyRecord.objects.get().expires_at == before
    set_row(
        intent,
        expires_at=PAST,
        status=Status.IN_PROGRESS,
        **dict.fromkeys(["response_status", "response_headers", "response_body", "completed_at"]),
    )
    complete(claim)
    assert IdempotencyRecord.objects.filter(
        expires_at__gt=UtcNow() + timedelta(minutes=59)
    ).exists()


def test_joined_claim_vanishes_with_its_transaction(store: Store, intent: Intent) -> None:
    """Record and writes are one."""
    with transaction.atomic():
        claim = claimed(store, intent)
        claim.lock()
        claim.complete(RESPONSE)
        assert obtain(store, intent, Policy()) == RESPONSE
        transaction.set_rollback(True)
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="settings of a PostgreSQL session")
def test_joined_claim_leaves_the_settings_alone(store: Store, intent: Intent) -> None:
    """The caller's COMMIT still flushes, and its locks wait as long as before."""
    with transaction.atomic(), connection.cursor() as cursor:
        claimed(store, intent)
        with pytest.raises(InProgressError):
            obtain(store, intent, Policy())
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')"
        )
        assert cursor.fetchone() == ("0", "on")


@pytest.mark.skipif(connection.vendor != "mysql", reason="settings of a MySQL session")
def test_lock_waits_as_long_as_before_in_a_session_whose_transaction_was_broken(
    store: Store,
) -> None:
    """The setting belongs to the session, which lives on after the rollback."""

    def waiting_time() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_lock_wait_timeout")
            return int(cursor.fetchone()[0])

    before = waiting_time()
    with transaction.atomic(), store.dialect.waiting(connection, 0.0):
        transaction.set_rollback(True)
    assert waiting_time() == before > 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="settings of a PostgreSQL session")
def test_claim_without_flush_leaves_the_session_alone(store: Store, intent: Intent) -> None:
    """What is set for the statement ends with it."""
    claimed(store, intent)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('synchronous_commit')"
        )
        assert cursor.fetchone() == ("0", "on")


@pytest.mark.parametrize(
    "values",
    [
        {"status": Status.COMPLETED},
        {"status": Status.RELEASED, "response_status": 201},
        {"status": "lost"},
    ],
    ids=["completed-without-answer", "answer-without-completion", "unknown"],
)
def test_database_refuses_an_inconsistent_record(
    values: dict[str, Any], store: Store, intent: Intent
) -> None:
    """The constraints hold, whatever writes the row."""
    claimed(store, intent)
    with pytest.raises(IntegrityError):
        set_row(intent, **values)


def test_waiting_is_bounded(store: Store, intent: Intent) -> None:
    """It ends with the refusal that a request without ``wait`` gets at once."""
    claimed(store, intent, atomic=False)
    with pytest.raises(InProgressError):
        obtain(store, intent, Policy(wait=timedelta(milliseconds=120)))
