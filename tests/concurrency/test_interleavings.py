"""The orders of events that broke earlier designs, each forced to happen."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from pytest_django import Settings

from django_idempotency.engine.attempts import Attempt
from django_idempotency.exceptions import InProgressError, TransitionError, UnavailableError
from django_idempotency.maintenance.cleanup import Sweep, clean_up
from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from django_idempotency.policy import Policy
from django_idempotency.protocol.claims import Claim
from django_idempotency.protocol.waiting import obtain
from django_idempotency.storage.dialects import dialect_of
from django_idempotency.storage.records import Store
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.storage.values import Intent, StoredResponse
from tests.app import effects, views
from tests.app.models import Order
from tests.concurrency.owners import Gate, in_thread, send, stopped_before
from tests.concurrency.test_racers import race
from tests.crash.test_kills import until_it_runs
from tests.support.patience import HANG_SECONDS, until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

RESPONSE = StoredResponse(201, [], b"cake")
SQLITE = connection.vendor == "sqlite"


def an_intent(key: str) -> Intent:
    """A request with this key."""
    return Intent(uuid.uuid5(uuid.NAMESPACE_URL, key), "anonymous", key, b"f" * 32, "POST", "/")


def age(**times: timedelta) -> None:
    """Move the times of every record into the past."""
    changes: dict[str, Any] = {name: UtcNow() - time for name, time in times.items()}
    IdempotencyRecord.objects.update(**changes)


def test_late_release_after_a_takeover_leaves_the_new_owner_alone(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view failed; before its late release another request took the key over and finished."""
    with stopped_before(monkeypatch, "late release", "/function/?act=crash", key) as (gate, first):
        age(claimed_at=timedelta(seconds=5))
        found = Store("default").read(IdempotencyRecord.objects.get().pk)
        assert found is not None
        again = obtain(Store("default"), _same(found), Policy())
        assert isinstance(again, Claim)
        with transaction.atomic():
            again.lock()
            again.complete(RESPONSE)
        gate.opened.set()
        assert first.result().status_code == 500
    assert IdempotencyRecord.objects.get().status == Status.COMPLETED


def _same(found: Any) -> Intent:
    """The intent of the only record."""
    record = IdempotencyRecord.objects.get()
    return Intent(record.pk, record.scope, record.key, found.fingerprint, "POST", "/")


def test_late_release_of_a_commit_in_flight_leaves_it_alone(key: str) -> None:
    """If only the token guarded it, it would free a key whose COMMIT lands a moment later."""
    claim = obtain(Store("default"), an_intent(key), Policy())
    assert isinstance(claim, Claim)
    released: list[bool] = []
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        claim.lock()
        claim.complete(RESPONSE)
        late = in_thread(pool, lambda: released.append(_late(claim)))
        if not SQLITE:  # whose one lock makes it wait, 250 ms at most
            late.result(HANG_SECONDS)
    late.result(HANG_SECONDS)
    assert released == [False]
    assert obtain(Store("default"), an_intent(key), Policy()) == RESPONSE


def _late(claim: Claim) -> bool:
    return Claim(Store("default"), claim.id, claim.terms, joined=False).release_late("late")


def test_owner_that_meets_a_prober_waits(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locked is not lost: a prober looks at the row in the very moment the owner begins."""
    with stopped_before(monkeypatch, "begin", "/function/", key) as (gate, owner):
        with transaction.atomic():
            IdempotencyRecord.objects.update(path="held")
            gate.opened.set()
            time.sleep(0.1)
            assert not owner.done()
        assert owner.result().status_code == 201
    assert Order.objects.count() == effects.count() == 1


def test_eager_duplicates_do_not_fence_each_other_off_for_ever(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are eight of them, and every owner needs 300 ms between its claim and its lock."""
    original = Attempt._in_transaction

    def late(self: Attempt, view: Any) -> Any:
        time.sleep(0.3)
        return original(self, view)

    monkeypatch.setattr(Attempt, "_in_transaction", late)
    monkeypatch.setattr(type(dialect_of(connection)), "grace", 0.1)

    def eager() -> None:
        until(lambda: send("/function/", key).status_code == 201, "fenced off for ever")

    race(eager, 8)
    assert Order.objects.count() == effects.count() == 1
    # The grace doubles with each attempt: the ninth has 25 s, which is enough for any machine.
    assert IdempotencyRecord.objects.get().attempts <= 9


def test_recycling_against_the_clean_up_runs_once_a_life(key: str) -> None:
    """Expired: one request takes the record anew while another process deletes it."""
    for _ in range(20):
        Order.objects.all().delete()
        send("/function/", key)
        age(expires_at=timedelta(seconds=1))
        barrier = threading.Barrier(4)

        def recycle(barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            # Refused where the clean-up holds the row in this moment.
            return int(until_it_runs(send, "/function/", key).status_code)

        def clean(barrier: threading.Barrier = barrier) -> int:
            barrier.wait()
            return clean_up(Upkeep("default"), Sweep()).deleted

        with ThreadPoolExecutor(4) as pool:
            requests = [in_thread(pool, recycle) for _ in range(2)]
            cleaners = [in_thread(pool, clean) for _ in range(2)]
            statuses = [request.result() for request in requests]
            assert sum(cleaner.result() for cleaner in cleaners) <= 1
        assert Order.objects.count() == 2
        assert statuses == [201, 201]
        assert send("/function/", key)["Idempotent-Replayed"] == "true"
        IdempotencyRecord.objects.all().delete()


def test_recycling_against_expire_in_the_admin_runs_once_a_life(key: str) -> None:
    """Expiring what is just being recycled leaves the new life alone."""
    send("/function/", key)
    age(expires_at=timedelta(seconds=1))
    pk = IdempotencyRecord.objects.get().pk

    def either(number: list[int] = [0, 1, 2, 3]) -> Any:  # noqa: B006 - shared on purpose
        if number.pop() % 2:
            return Upkeep("default").expire(pk)
        return until_it_runs(send, "/function/", key)

    replies = [reply for reply in race(either, 4) if not isinstance(reply, bool)]
    runs = [reply for reply in replies if "Idempotent-Replayed" not in reply]
    assert Order.objects.count() == effects.count() == 1 + len(runs)
    assert {reply.status_code for reply in replies} == {201}


def test_purge_never_deletes_a_record_that_is_being_recycled(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner has claimed it and not begun; its old life had expired."""
    send("/function/", key)
    age(expires_at=timedelta(seconds=1))
    with stopped_before(monkeypatch, "begin", "/function/", key) as (gate, owner):
        assert clean_up(Upkeep("default"), Sweep()).deleted == 0
        gate.opened.set()
        assert owner.result().status_code == 201
    assert Order.objects.count() == effects.count() == 2


def test_retention_and_lease_shorter_than_the_view_run_it_once(
    key: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row lock vouches for the owner, whatever the clock says; then it answers as promised."""
    settings.IDEMPOTENCY_RETENTION = settings.IDEMPOTENCY_LEASE = timedelta(milliseconds=200)
    path, gate = "/function/?act=stopping", Gate()

    def stopping(request: Any, nonce: str) -> Any:
        gate.stop()
        return views.order(request, nonce)

    monkeypatch.setitem(views.ACTS, "stopping", stopping)
    with ThreadPoolExecutor(1) as pool:
        owner = in_thread(pool, lambda: send(path, key))
        assert gate.reached.wait(20)
        early = []
        for _ in range(10):
            early.append(send(path, key))
            if not SQLITE:  # where it would wait for the view
                clean_up(Upkeep("default"), Sweep())
            time.sleep(0.05)
        gate.opened.set()
        first = owner.result()
    assert first.status_code == 201
    assert {reply.status_code for reply in early} == {409}
    assert Order.objects.count() == effects.count() == 1
    IdempotencyRecord.objects.update(expires_at=UtcNow() + timedelta(seconds=5))
    assert send(path, key).content == first.content


@pytest.mark.skipif(SQLITE, reason="one writer: the second transaction cannot begin")
def test_crossed_keys_in_two_outer_transactions_do_not_deadlock(key: str) -> None:
    """Each holds one claim and asks for the other's: refused within moments."""
    barrier = threading.Barrier(2)

    def cross(names: list[tuple[str, str]] = [("a", "b"), ("b", "a")]) -> list[Any]:  # noqa: B006
        mine, other = names.pop()
        outcomes: list[Any] = []
        try:
            with transaction.atomic():
                outcomes.append(obtain(Store("default"), an_intent(key + mine), Policy()))
                barrier.wait()
                outcomes.append(obtain(Store("default"), an_intent(key + other), Policy()))
        except (InProgressError, UnavailableError) as error:
            outcomes.append(error)
        return outcomes

    began = time.monotonic()
    outcomes = race(cross, 2)
    assert time.monotonic() - began < HANG_SECONDS
    assert all(isinstance(outcome[0], Claim) for outcome in outcomes)
    assert any(isinstance(outcome[-1], InProgressError) for outcome in outcomes)


@pytest.fixture
def repeatable_read() -> Any:
    """Transactions of this thread see one snapshot."""
    if SQLITE:
        pytest.skip("SQLite has no isolation levels")
    statement = {
        "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "mysql": "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(statement)
    yield
    connection.close()


def test_insert_lost_at_repeatable_read_in_autocommit_replays(
    key: str, repeatable_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row came between our look and our INSERT; the next statement sees it."""
    original = Store.insert

    def beaten(self: Store, *args: Any) -> Any:
        monkeypatch.setattr(Store, "insert", original)
        with ThreadPoolExecutor(1) as pool:
            in_thread(pool, lambda: _finish(key)).result()
        return self.insert(*args)

    monkeypatch.setattr(Store, "insert", beaten)
    assert obtain(Store("default"), an_intent(key), Policy()) == RESPONSE


def _finish(key: str) -> None:
    claim = obtain(Store("default"), an_intent(key), Policy())
    assert isinstance(claim, Claim)
    with transaction.atomic():
        claim.lock()
        claim.complete(RESPONSE)


def test_insert_lost_to_a_row_outside_the_snapshot_is_unavailable(
    key: str, repeatable_read: None
) -> None:
    """An outer transaction that cannot see the record can neither run nor replay: 503."""
    with transaction.atomic():
        Order.objects.count()
        with ThreadPoolExecutor(1) as pool:
            in_thread(pool, lambda: _finish(key)).result()
        with pytest.raises(UnavailableError):
            obtain(Store("default"), an_intent(key), Policy())
    assert obtain(Store("default"), an_intent(key), Policy()) == RESPONSE


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL's claims need no flush"
)
@pytest.mark.parametrize("atomic", [True, False])
def test_claim_that_an_immediate_stop_may_lose_costs_nothing(atomic: bool, key: str) -> None:
    """An atomic view's claim may be lost, with its view; where nothing but the lease protects, not.

    The server is one of its own, so that it can be stopped.
    """
    from tests.support.servers import PostgreSQL

    with PostgreSQL() as server:
        own = connections["default"].copy("own")
        own.settings_dict |= {"HOST": "127.0.0.1", "PORT": str(server.port), "USER": "postgres"}
        own.settings_dict |= {"NAME": "idempotency", "OPTIONS": {}}
        connections["own"] = own
        try:
            with own.schema_editor() as editor:
                editor.create_model(IdempotencyRecord)
            _stop_after_a_claim(server, key, atomic=atomic)
        finally:
            own.close()
            del connections["own"]


def _stop_after_a_claim(server: Any, key: str, *, atomic: bool) -> None:
    policy = Policy(atomic=atomic)
    assert isinstance(obtain(Store("own"), an_intent(key), policy), Claim)
    server.crash()
    server.start()
    connections["own"].close()
    if atomic:
        time.sleep(0.15)
        claim = obtain(Store("own"), an_intent(key), policy)
        assert isinstance(claim, Claim)
        with transaction.atomic(using="own"):
            claim.lock()
            claim.complete(RESPONSE)
        assert obtain(Store("own"), an_intent(key), policy) == RESPONSE
    else:
        with pytest.raises(InProgressError):
            obtain(Store("own"), an_intent(key), policy)


@pytest.mark.skipif(SQLITE, reason="the purge waits for SQLite's one writer")
def test_purge_never_deletes_the_life_that_an_open_transaction_begins(key: str) -> None:
    """It neither waits for the row, nor deletes by what was true before."""
    send("/function/", key)
    age(expires_at=timedelta(seconds=1))
    record = IdempotencyRecord.objects.get()
    found = Store("default").read(record.pk)
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        assert isinstance(obtain(Store("default"), _same(found), Policy()), Claim)
        purge = in_thread(pool, lambda: clean_up(Upkeep("default"), Sweep()).deleted)
        assert purge.result(HANG_SECONDS) == 0
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS


def test_owner_from_an_earlier_life_cannot_save_into_the_next_one(key: str) -> None:
    """A recycled record begins at attempt 1 again: only a random token tells the owners apart."""
    old = obtain(Store("default"), an_intent(key), Policy())
    assert isinstance(old, Claim)
    assert old.release_late("dead")
    age(expires_at=timedelta(seconds=1))
    new = obtain(Store("default"), an_intent(key), Policy())
    assert isinstance(new, Claim)
    assert new.terms.attempts == old.terms.attempts == 1
    with transaction.atomic(), pytest.raises(TransitionError):
        old.lock()
    with pytest.raises(TransitionError):
        old.complete(RESPONSE)


@pytest.mark.skipif(SQLITE, reason="one writer: the second one waits for it")
def test_claim_that_meets_an_uncommitted_one_is_refused_at_once(key: str) -> None:
    """An outer transaction may stay open for long; its key is in progress all the while."""
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        assert isinstance(obtain(Store("default"), an_intent(key), Policy()), Claim)
        second = in_thread(pool, lambda: obtain(Store("default"), an_intent(key), Policy()))
        with pytest.raises(InProgressError):
            second.result(HANG_SECONDS)
