"""Several workers, one operation of several steps: each on connections of its own."""

import functools
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test import Client

from django_idempotency.durable import checkpoints
from django_idempotency.durable.completer import Completion, complete_due
from django_idempotency.maintenance.cleanup import Sweep, clean_up, erase
from django_idempotency.maintenance.records import delete
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
)
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import Gate, in_thread
from tests.concurrency.test_racers import race
from tests.support.patience import HANG_SECONDS, until
from tests.support.stage import (
    ON_STAGE,
    PAST,
    DownError,
    Service,
    bake,
    code,
    completed,
    die,
    due,
    expire,
    outcome,
    plays,
    record,
    runs,
    step,
    steps,
)

pytestmark = ON_STAGE

SQLITE = connection.vendor == "sqlite"


def send(key: str, door: str = "/plain/") -> Any:
    """One request; a view's exception becomes a 500."""
    client = Client(raise_request_exception=False)
    return client.post(door, headers={"Idempotency-Key": key})


def lease_over() -> None:
    """The lease of the only record is over."""
    assert IdempotencyRecord.objects.update(lease_expires_at=PAST) == 1


class Late:
    """An operation whose first attempt stops where a test wants it to.

    It bakes a cake, stops, and then does what the test is about. Later attempts do not stop.
    """

    def __init__(self, then: Callable[[Any], Any]) -> None:
        self.gate = Gate()
        self.stops = [True]
        self.then = then

    def stop(self) -> None:
        """Wait here, the first time."""
        if self.stops:
            self.stops.pop()
            self.gate.stop()

    def __call__(self, op: Any) -> Any:
        cake = op.step("ride", bake, "ride")
        return cake["pk"], self.then(op)


@contextmanager
def stopped(act: Late, key: str, door: str = "/plain/") -> Iterator["Future[Any]"]:
    """A request whose worker has come to where it stops."""
    plays(act)
    with ThreadPoolExecutor(1) as pool:
        future = in_thread(pool, lambda: send(key, door))
        try:
            assert act.gate.reached.wait(20)
            yield future
        finally:
            act.gate.opened.set()


def late(then: Callable[["Late", Any], Any]) -> Late:
    """An operation, made of a function that knows where to stop."""
    act: Late = Late(lambda op: then(act, op))
    return act


def stop_and(do: Callable[[Any], Any]) -> Late:
    """One that stops between two steps."""

    def then(act: Late, op: Any) -> Any:
        act.stop()
        return do(op)

    return late(then)


SERVICE = Service()


def _pays(op: Any) -> Any:
    return op.step("pay", bake, "pay")


def _pays_in_a_block(op: Any) -> Any:
    with op.atomic("pay") as block:
        if not block.recorded:
            block.result = bake("pay")
    return block.result


def _beats(op: Any) -> Any:
    op.heartbeat()
    return bake("pay")


def _swallows(op: Any) -> Any:
    try:
        op.step("pay", bake, "pay")
    except Exception:
        effects.happened("swallowed")
    return "kept"


NEXT: dict[str, Callable[[Any], Any]] = {
    "step": _pays,
    "block": _pays_in_a_block,
    "heartbeat": _beats,
    "swallowed": _swallows,
}


@pytest.mark.parametrize("following", NEXT.values(), ids=NEXT)
def test_owner_that_was_taken_over_can_begin_no_step(following: Any, key: str) -> None:
    """It is refused before the function runs, and the new owner's reply is kept."""
    with stopped(stop_and(following), key) as owner:
        lease_over()
        second = send(key)
        assert outcome(second)
        before = effects.count()
    first = owner.result()
    assert (first.status_code, code(first)) == (409, "idempotency_in_progress")
    assert runs("bake pay") == 1
    assert effects.count() == before + runs("swallowed")
    assert send(key).content == second.content
    assert Order.objects.count() == 2


def test_owner_that_was_taken_over_cannot_complete(key: str) -> None:
    """Its reply is thrown away."""
    with stopped(stop_and(lambda op: None), key) as owner:
        lease_over()
        second = send(key)
    assert owner.result().status_code == 409
    assert send(key).content == second.content
    assert runs("bake ride") == Order.objects.count() == 1


def test_owner_that_was_taken_over_makes_no_call_after_it_learnt_it(key: str) -> None:
    """Even if the view catches the exception."""
    service = Service()

    def swallows(op: Any) -> Any:
        try:
            op.step("pay", bake, "pay")
        except Exception:
            effects.happened("swallowed")
        return op.call("charge", service)["id"]

    with stopped(stop_and(swallows), key) as owner:
        lease_over()
        second = outcome(send(key))
        assert len(service.keys) == 1
    assert owner.result().status_code == 409
    assert len(service.keys) == runs("swallowed") == 1
    assert outcome(send(key)) == second


def test_failure_of_an_owner_that_was_taken_over_is_not_noted(key: str) -> None:
    """The new owner has recorded the step, and its row stays as it is."""
    service = Service()

    def then(act: Late, op: Any) -> Any:
        def charge(*, idempotency_key: str) -> Any:
            if act.stops:
                act.stop()
                raise DownError
            return service(idempotency_key=idempotency_key)

        return op.call("charge", charge)

    with stopped(late(then), key) as owner:
        lease_over()
        second = send(key)
        assert outcome(second)
    assert owner.result().status_code in (409, 500)
    assert steps() == {"ride": "completed", "charge": "completed"}
    assert send(key).content == second.content


def test_result_of_a_call_of_an_owner_that_was_taken_over_is_not_recorded(key: str) -> None:
    """Both owners called with the same key; what the new owner recorded counts."""
    service = Service()

    def then(act: Late, op: Any) -> Any:
        def charge(*, idempotency_key: str) -> Any:
            is_late = bool(act.stops)
            done = service(idempotency_key=idempotency_key)
            act.stop()
            return {**done, "late": is_late}

        return op.call("charge", charge)

    with stopped(late(then), key) as owner:
        lease_over()
        second = send(key)
        assert outcome(second)[1]["late"] is False
    assert owner.result().status_code == 409
    assert send(key).content == second.content
    assert len(set(service.keys)) == len(service.ledger) == 1
    assert len(service.keys) == 2


def test_call_made_at_most_once_is_in_doubt_after_a_takeover(key: str) -> None:
    """It is made once, though both workers live; a later attempt may find it."""
    mail = Service()

    def then(act: Late, op: Any) -> Any:
        def letter(*, idempotency_key: str) -> Any:
            act.stop()
            return mail(idempotency_key=idempotency_key)

        def find(*, idempotency_key: str) -> Any:
            found = mail.find(idempotency_key=idempotency_key)
            if found is None:
                raise DownError
            return found

        return op.call("mail", letter, semantics="at_most_once", reconcile=find)

    with stopped(late(then), key) as owner:
        assert steps()["mail"] == "started"
        lease_over()
        assert code(send(key)) == "idempotency_outcome_unknown"
    assert owner.result().status_code == 409
    assert len(mail.keys) == 1
    assert outcome(send(key))
    assert len(mail.keys) == 1


@pytest.mark.parametrize("number", [1, 4])
def test_key_is_not_taken_over_during_a_step(number: int, key: str) -> None:
    """Its transaction holds the record, however long it takes: 409 while the step still runs."""

    def then(act: Late, op: Any) -> Any:
        def slow() -> Any:
            act.stop()
            return bake("pay")

        lease_over()
        return op.step("pay", slow)

    with stopped(late(then), key) as owner:
        replies = race(lambda: send(key), number)
        assert {reply.status_code for reply in replies} == {409}
        assert not owner.done()
    assert outcome(owner.result())
    assert runs("bake ride") == runs("bake pay") == 1
    assert Order.objects.count() == 2


def test_step_longer_than_its_lease_is_recorded(key: str) -> None:
    """And the next one has a lease again."""

    def then(act: Late, op: Any) -> Any:
        lease_over()
        op.step("pay", bake, "pay")
        return IdempotencyRecord.objects.filter(lease_expires_at__gt=PAST).exists()

    plays(late(then))
    assert outcome(send(key))[1] is True


def test_live_operation_is_left_alone_by_everybody(key: str) -> None:
    """Completers, clean-ups, erasure: in a step, and between two; its retention is over as well."""
    store = Upkeep("default")

    def disturb() -> list[Any]:
        due()
        return [
            [done.completion for done in complete_due()],
            clean_up(store, Sweep()).deleted,
            delete(store, [record().pk]),
            erase(store, "anonymous"),
            erase(store, "anonymous", forget=True),
        ]

    untouched = [[Completion.BUSY], 0, [], 0, 0]

    def then(act: Late, op: Any) -> Any:
        def slow() -> Any:
            act.stop()
            return bake("pay")

        expire()
        assert disturb() == untouched
        return op.step("pay", slow) if not SQLITE else op.call("pay", lambda **kwargs: slow())

    with stopped(late(then), key, "/kept/") as owner:
        assert disturb() == untouched
    assert outcome(owner.result())
    assert effects.count() == Order.objects.count() == 2
    assert not IdempotencyEnvelope.objects.exists()


@pytest.mark.skipif(SQLITE, reason="SQLite has no row that could be locked by itself")
def test_owner_that_meets_a_prober_waits(key: str) -> None:
    """A prober holds the record at the moment the step begins."""
    act = stop_and(_pays)
    with stopped(act, key) as owner:
        with transaction.atomic():
            assert len(IdempotencyRecord.objects.select_for_update()) == 1
            act.gate.opened.set()
            time.sleep(0.1)
            assert not owner.done()
        assert outcome(owner.result())
    assert Order.objects.count() == 2


@pytest.mark.skipif(SQLITE, reason="SQLite has no row that could be locked by itself")
def test_record_that_is_held_for_long_does_not_keep_the_key(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner gives up with a 409, so the next request can claim long before the lease ends."""
    monkeypatch.setattr(checkpoints, "PROBER_SECONDS", 0.01)
    reached, opened = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            IdempotencyRecord.objects.select_for_update().get()
            reached.set()
            assert opened.wait(20)

    with ThreadPoolExecutor(1) as pool:
        holders: list[Any] = []

        def then(act: Late, op: Any) -> Any:
            if not holders:
                holders.append(in_thread(pool, hold))
                assert reached.wait(20)
            try:
                return op.step("pay", bake, "pay")
            except Exception:
                opened.set()
                holders[0].result()
                raise

        plays(late(then))
        assert code(send(key)) == "idempotency_in_progress"
    assert (record().status, runs("bake pay")) == (Status.RELEASED, 0)
    assert outcome(send(key))
    assert Order.objects.count() == 2


class Deadlock:
    """A step that another transaction deadlocks with; it swallows the error and returns."""

    def __init__(self) -> None:
        first, second = (Order.objects.create(nonce=name) for name in ("first", "second"))
        self.first, self.second = first.pk, second.pk

    def _lock(self, pk: int) -> None:
        Order.objects.select_for_update().get(pk=pk)

    def _heavy(self, locked: threading.Event) -> None:
        """InnoDB rolls back the transaction that has written less."""
        with transaction.atomic():
            Order.objects.bulk_create(Order(nonce="heavy") for _ in range(50))
            self._lock(self.second)
            locked.set()
            self._lock(self.first)

    def __call__(self) -> str:
        Order.objects.create(nonce="mine")
        self._lock(self.first)
        locked = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            other = in_thread(pool, lambda: self._heavy(locked))
            assert locked.wait(20)
            # The second transaction in the circle waits now.
            time.sleep(0.1)
            with pytest.raises(OperationalError):
                self._lock(self.second)
            other.result()
        return "done"


@pytest.mark.skipif(connection.vendor != "mysql", reason="only InnoDB rolls back in silence")
@pytest.mark.parametrize("before", ["nothing", "failed attempt", "failed in this attempt"])
def test_step_that_swallows_a_deadlock_is_not_recorded(before: str, key: str) -> None:
    """Its rows are gone, and the lock on its record; the next attempt runs it again."""
    deadlock = Deadlock()
    failures: list[BaseException] = [DownError()] if before != "nothing" else []
    deadlocks = [deadlock]

    def work() -> str:
        if failures:
            raise failures.pop()
        if deadlocks:
            return deadlocks.pop()()
        Order.objects.create(nonce="mine")
        return "done"

    @plays
    def act(op: Any) -> Any:
        if before == "failed in this attempt" and failures:
            with pytest.raises(DownError):
                op.step("work", work)
        return op.step("work", work)

    if before == "failed attempt":
        assert send(key).status_code == 500
    assert send(key).status_code in (409, 500)
    assert steps().get("work") != "completed"
    assert not Order.objects.filter(nonce="mine").exists()
    # The key is free at once, and not when its lease is over.
    assert outcome(send(key)) == "done"
    assert Order.objects.filter(nonce="mine").count() == 1


def journey(op: Any) -> Any:
    """Steps that count their effects, in whichever process they run."""
    ride = op.step("ride", bake, "ride")
    charge = op.call("charge", charged)
    return op.step("pay", bake, "pay"), ride, charge


def charged(*, idempotency_key: str) -> str:
    """The call is another line for each time it is made."""
    effects.happened(f"charge {idempotency_key}")
    return idempotency_key


def lines() -> Counter[str]:
    """How often each thing happened."""
    return Counter(effects.log().read_text().splitlines())


def test_duplicates_at_the_same_moment_run_each_step_once() -> None:
    """16 callers, one key, ten times: one runs it, the others get 409."""
    plays(journey)
    for _ in range(10):
        replies = race(functools.partial(send, uuid.uuid4().hex))
        assert {reply.status_code for reply in replies} <= {201, 409}
        assert len({reply.content for reply in replies if reply.status_code == 201}) == 1
    assert runs("bake ride") == runs("bake pay") == 10
    assert Order.objects.count() == 20


def test_takeovers_at_the_same_moment_resume_once(key: str) -> None:
    """The lease is over: one of them has it, again and again, and every step is done once."""
    failures = [DownError()] * 5

    @plays
    def act(op: Any) -> Any:
        done = [op.step("ride", bake, "ride")]
        for number in range(5):
            done.append(op.step("leg", bake, "leg", key=number))
            if failures and len(failures) == 5 - number:
                failures.pop()
                raise DownError
        return done

    for _ in range(5):
        statuses = Counter(reply.status_code for reply in race(lambda: send(key), 8))
        assert set(statuses) <= {409, 500, 201}
        if record().status != Status.COMPLETED:
            die()
    while send(key).status_code != 201:
        die()
    assert (runs("bake ride"), runs("bake leg"), Order.objects.count()) == (1, 5, 6)


def test_recycling_at_the_same_moment_runs_once_a_life(key: str) -> None:
    """Expired: clients take the key anew while clean-ups delete it; no old step is seen."""
    lives: list[str] = []

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", bake, "ride")

    outcome(send(key))
    for number in range(12):
        expire()
        old = set(IdempotencyStep.objects.values_list("pk", flat=True))
        parts = iter(["send", "clean", "send", "clean"])

        def either(parts: Iterator[str] = parts) -> Any:
            if next(parts) == "clean":
                return clean_up(Upkeep("default"), Sweep()).deleted
            return until_answered(key)

        replies = [reply for reply in race(either, 4) if not isinstance(reply, int)]
        assert len({reply.content for reply in replies}) == 1
        assert runs("bake ride") == Order.objects.count() == 2 + number
        assert steps() == {"ride": "completed"}
        assert old.isdisjoint(IdempotencyStep.objects.values_list("pk", flat=True))
        lives.append(replies[0].content)
    assert len(set(lives)) == 12


def until_answered(key: str, door: str = "/plain/") -> Any:
    """The first 201."""

    def answered() -> Any:
        reply = send(key, door)
        assert reply.status_code in (201, 409, 503)
        return reply if reply.status_code == 201 else None

    return until(answered, "the key is stuck")


OPERATIONS = 8


@pytest.fixture
def interrupted() -> list[str]:
    """Operations whose clients have gone after the first step; half of their workers died."""

    @plays
    def dies(op: Any) -> None:
        op.step("ride", bake, "ride")
        raise DownError

    keys = [uuid.uuid4().hex for _ in range(OPERATIONS)]
    for key in keys:
        assert send(key, "/kept/").status_code == 500
    stale = IdempotencyRecord.objects.filter(key__in=keys[::2])
    stale.update(status=Status.IN_PROGRESS, lease_expires_at=PAST, claimed_at=PAST)
    due()
    plays(journey)
    return keys


def check_finished(keys: list[str]) -> None:
    """Every operation has an answer, and each of its parts happened once."""
    counted = lines()
    assert counted["bake ride"] == counted["bake pay"] == OPERATIONS
    assert sum(count for line, count in counted.items() if "charge" in line) == OPERATIONS
    assert Order.objects.count() == 2 * OPERATIONS
    assert not IdempotencyEnvelope.objects.exists()
    assert set(IdempotencyRecord.objects.values_list("status", flat=True)) == {"completed"}
    for key in keys:
        assert outcome(send(key, "/kept/"))


def test_completers_at_the_same_moment_run_each_operation_once(interrupted: list[str]) -> None:
    """Four of them, in threads."""

    def work() -> Counter[str]:
        return Counter(done.completion.value for done in complete_due())

    total: Counter[str] = sum(race(work, 4), Counter())
    while IdempotencyEnvelope.objects.exists():
        total += Counter(completed())
    assert total["completed"] >= OPERATIONS
    assert total["pending"] == total["given_up"] == 0
    check_finished(interrupted)


def test_completers_and_clients_run_each_operation_once(interrupted: list[str]) -> None:
    """The clients come back at the same moment."""
    turns = iter([*range(4), *range(4)])

    def either() -> None:
        if next(turns) % 2:
            list(complete_due())
            return
        for key in interrupted:
            send(key, "/kept/")

    race(either, 6)
    for key in interrupted:
        until_answered(key, "/kept/")
    if IdempotencyEnvelope.objects.exists():
        assert set(completed()) == {"completed"}
    check_finished(interrupted)


def test_completers_in_processes_run_each_operation_once(interrupted: list[str]) -> None:
    """As the command starts them."""
    connections.close_all()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.completer"],
            env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    told = [process.communicate("go\n", timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3
    total = sum((Counter(each.split()) for each in told), Counter())
    while IdempotencyEnvelope.objects.exists():
        total += Counter(completed())
    assert total["completed"] >= OPERATIONS
    check_finished(interrupted)


@pytest.mark.skipif(not SQLITE, reason="the others have a lock for each row")
def test_recycling_does_not_wait_for_another_writer(key: str) -> None:
    """Another writer holds SQLite's one lock: 409 at once, as for any takeover."""
    plays(lambda op: op.step("ride", bake))
    assert outcome(send(key))
    expire()
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        Order.objects.create(nonce="held")
        reply = in_thread(pool, lambda: send(key)).result(HANG_SECONDS)
        assert reply.status_code in (409, 503)
    assert outcome(send(key))


def test_step_of_a_frozen_worker_ends_with_its_transaction(key: str) -> None:
    """Its connection is cut in the middle of a step: neither rows nor checkpoint, and no lock."""

    def then(act: Late, op: Any) -> Any:
        def work() -> Any:
            done = bake("pay")
            if act.stops:
                act.stops.pop()
                raw = connections["default"].connection
                raw.close() if connection.vendor != "mysql" else raw._force_close()
            return done

        return op.step("pay", work)

    plays(late(then))
    with ThreadPoolExecutor(1) as pool:
        reply = in_thread(pool, lambda: send(key)).result()
    assert reply.status_code in (409, 500, 503)
    assert Order.objects.count() == 1
    assert steps().get("pay") != "completed"
    if record().status == Status.IN_PROGRESS:
        die()
    assert outcome(send(key))
    assert Order.objects.count() == 2
    assert step("pay").status == "completed"
