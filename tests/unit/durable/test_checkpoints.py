"""The transactions in which steps are recorded: how many statements, whose record, for how long."""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.durable import checkpoints
from django_idempotency.exceptions import TransitionError
from django_idempotency.models import IdempotencyRecord, IdempotencyStep, Status, StepKind
from django_idempotency.models import StepStatus as S
from django_idempotency.storage.records import RowLockedError
from django_idempotency.storage.steps import Entry, Journal
from tests.app.models import Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DownError,
    Service,
    bake,
    code,
    die,
    fails_first,
    outcome,
    plays,
    record,
    runs,
    step,
    steps,
)
from tests.unit.storage.test_statements import bounds, statements

pytestmark = ON_STAGE

LEASE = timedelta(seconds=60)
SQLITE = connection.vendor == "sqlite"


def cost(send: Callable[[], Any]) -> tuple[int, int]:
    """How many statements a request is, and how many transactions."""
    with CaptureQueriesContext(connection) as captured:
        reply = send()
    assert reply.status_code < 500, reply.content
    texts = [query["sql"] for query in captured]
    begun = sum(text.startswith("BEGIN") for text in texts)
    rest = [t for t in texts if not t.startswith(("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"))]
    return len(rest), begun


def nothing() -> None:
    """A step's function without statements of its own."""


@pytest.fixture
def bare(post: Post) -> tuple[int, int]:
    """What an operation without steps costs."""
    plays(lambda op: None)
    return cost(lambda: post("/plain/", uuid.uuid4().hex))


ACTS: dict[str, tuple[Callable[[Any], Any], tuple[int, int]]] = {
    "step": (lambda op: op.step("a", nothing), (2, 1)),
    "three steps": (lambda op: [op.step("a", nothing, key=key) for key in range(3)], (6, 3)),
    "call": (lambda op: op.call("a", Service()), (2, 1)),
    "call with a time-out": (lambda op: op.call("a", Service(), timeout=LEASE / 4), (2, 1)),
    # It beats before it is made.
    "long call": (lambda op: op.call("a", Service(), timeout=LEASE), (3, 2)),
    "at most once": (lambda op: op.call("a", Service(), semantics="at_most_once"), (4, 2)),
    "long, at most once": (
        lambda op: op.call("a", Service(), timeout=LEASE, semantics="at_most_once"),
        (4, 2),
    ),
    "heartbeat": (lambda op: op.heartbeat(), (1, 1)),
}


@pytest.mark.parametrize(("act", "budget"), ACTS.values(), ids=ACTS)
def test_statements_of_a_first_attempt_stay_in_the_budget(
    act: Any, budget: tuple[int, int], key: str, post: Post, bare: tuple[int, int]
) -> None:
    """Two statements and one transaction for a step; nothing is loaded."""
    plays(act)
    count, begun = cost(lambda: post("/plain/", key))
    assert (count - bare[0], begun - bare[1]) == budget


@pytest.mark.parametrize("number", [1, 5])
def test_resumed_attempt_loads_all_its_steps_at_once(
    number: int, key: str, post: Post, bare: tuple[int, int]
) -> None:
    """One SELECT, and no transaction for what is recorded."""
    act = plays(fails_first(lambda op: [op.step("a", nothing, key=key) for key in range(number)]))
    assert post("/plain/", key).status_code == 500
    other = uuid.uuid4().hex
    plays(fails_first(lambda op: None))
    assert post("/plain/", other).status_code == 500
    again = cost(lambda: post("/plain/", other))
    plays(act)
    count, begun = cost(lambda: post("/plain/", key))
    assert (count - again[0], begun - again[1]) == (1, 0)


def test_steps_of_an_atomic_view_cost_one_statement(key: str, post: Post) -> None:
    """Its record is locked already."""
    plays(lambda op: None)
    count, begun = cost(lambda: post("/whole/", uuid.uuid4().hex))
    plays(lambda op: op.step("a", nothing))
    assert cost(lambda: post("/whole/", key)) == (count + 1, begun)


def test_steps_without_a_key_cost_their_transaction(post: Post) -> None:
    """Nothing is recorded."""
    plays(lambda op: [op.step("a", nothing), op.call("b", Service())])
    assert cost(lambda: post("/plain/")) == (0, 1)


def test_statement_counts_are_those_of_the_other_tests(key: str, post: Post) -> None:
    """The bounds of transactions are counted alike."""
    plays(lambda op: op.step("a", nothing))
    assert bounds(lambda: post("/plain/", key), "BEGIN") == 1
    assert statements(lambda: post("/plain/", key))


def left() -> timedelta:
    """How much of the lease is left; a test's clock is the database's, to some seconds."""
    return record().lease_expires_at - timezone.now()


def nearly_over() -> None:
    """Make the lease one that ends in two seconds, or has ended by now on a slow machine."""
    soon = timezone.now() + timedelta(seconds=2)
    assert IdempotencyRecord.objects.update(lease_expires_at=soon) == 1


def about(duration: timedelta) -> Any:
    """That long, give or take more than the test needs on any machine."""
    return pytest.approx(duration, abs=timedelta(seconds=25))


BEATS: dict[str, Callable[[Any], Any]] = {
    "step": lambda op: op.step("a", nothing),
    "call": lambda op: op.call("a", Service()),
    "at most once": lambda op: op.call("a", Service(), semantics="at_most_once"),
    "heartbeat": lambda op: op.heartbeat(),
}


@pytest.mark.parametrize("act", BEATS.values(), ids=BEATS)
def test_lease_is_extended_by_whatever_is_recorded(act: Any, key: str, post: Post) -> None:
    """The view need not ask for it; the next step has a whole lease again."""
    seen = []

    @plays
    def beats(op: Any) -> None:
        nearly_over()
        act(op)
        seen.append(left())

    assert post("/plain/", key).status_code == 201
    assert seen == [about(LEASE)]


def test_block_extends_the_lease(key: str, post: Post) -> None:
    """As a step does."""
    seen = []

    @plays
    def act(op: Any) -> None:
        nearly_over()
        with op.atomic("a"):
            pass
        seen.append(left())

    assert post("/plain/", key).status_code == 201
    assert seen == [about(LEASE)]


@pytest.mark.parametrize("semantics", ["at_least_once", "at_most_once"])
@pytest.mark.parametrize("timeout", [LEASE, LEASE * 10])
def test_lease_covers_a_call_that_is_longer(
    timeout: timedelta, semantics: str, key: str, post: Post
) -> None:
    """No request takes the key over meanwhile; the call gets its own time-out."""
    seen = []

    def slow(**kwargs: Any) -> None:
        seen.append((left(), kwargs["timeout"]))

    @plays
    def act(op: Any) -> None:
        op.call("slow", slow, timeout=timeout, semantics=semantics)

    assert post("/plain/", key).status_code == 201
    assert seen == [(about(LEASE + timeout), timeout.total_seconds())]


class Time:
    """A monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """The moment."""
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock by which the age of the last heartbeat is measured."""
    clock = Time()
    monkeypatch.setattr(checkpoints, "time", clock)
    return clock


@pytest.mark.parametrize(("ahead", "beats"), [(0, False), (25, False), (35, True), (99, True)])
def test_call_beats_when_less_than_half_a_lease_is_left(
    ahead: float, beats: bool, key: str, post: Post, clock: Time
) -> None:
    """A view may compute for a while between two calls."""
    seen = []

    @plays
    def act(op: Any) -> None:
        op.step("a", nothing)
        nearly_over()
        clock.ahead += ahead
        op.call("b", lambda **kwargs: seen.append(left()))

    assert post("/plain/", key).status_code == 201
    assert seen == [about(LEASE if beats else timedelta(seconds=2))]


def test_each_try_of_a_call_is_covered(key: str, post: Post, clock: Time) -> None:
    """The pauses between them take their time, too."""
    seen = []

    class Thrice:
        """A patient policy."""

        def run(self, function: Any, **kwargs: Any) -> Any:
            """Three tries, a long time after one another."""
            for _ in range(3):
                nearly_over()
                clock.ahead += 40
                function()

    @plays
    def act(op: Any) -> None:
        op.call("b", lambda **kwargs: seen.append(left()), retry=Thrice())

    assert post("/plain/", key).status_code == 201
    assert seen == [about(LEASE)] * 3


def test_heartbeat_inside_a_rolled_back_step_does_not_count(
    key: str, post: Post, clock: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction is gone, and the longer lease with it: the next call beats."""
    seen = []
    monkeypatch.setattr(
        "django_idempotency.durable.steps.Steps._record_failure", lambda *args: None
    )

    def fails() -> None:
        raise DownError

    @plays
    def act(op: Any) -> None:
        clock.ahead += 40
        nearly_over()
        with pytest.raises(DownError):
            op.step("a", fails)
        op.call("b", lambda **kwargs: seen.append(left()))

    assert post("/plain/", key).status_code == 201
    assert seen == [about(LEASE)]


@pytest.mark.parametrize("door", ["/plain/", "/whole/"])
def test_heartbeat_where_none_is_needed_does_nothing(door: str, key: str, post: Post) -> None:
    """Without a key, or with a row lock."""
    plays(lambda op: op.heartbeat())
    assert post(door).status_code == 201
    assert post("/whole/", key).status_code == 201


@pytest.fixture
def journal() -> Journal:
    """The steps in the default database."""
    return Journal("default")


@pytest.fixture
def owned(key: str, post: Post) -> IdempotencyRecord:
    """A record in progress."""
    plays(lambda op: None)
    post("/plain/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS, **dict.fromkeys(answer))
    return record()


def an_entry(status: S = S.COMPLETED, name: str = "ride", **details: Any) -> Entry:
    """A step in that status."""
    return Entry(name, StepKind.STEP, status, 1, b"d" * 32, **details)


def test_entry_comes_back_as_it_was_written(journal: Journal, owned: IdempotencyRecord) -> None:
    """Every column; its beginning lies as long ago as it took."""
    took = timedelta(hours=3, milliseconds=250)
    entry = an_entry(output=b"\x00\xff", codec="gzip", error="DownError", took=took)
    assert journal.add(owned.pk, owned.token, entry, mark="")
    assert journal.load(owned.pk) == {"ride": replace(entry, status=S.COMPLETED, took=timedelta())}
    row = step("ride")
    assert row.completed_at
    assert row.completed_at - row.started_at == pytest.approx(took, abs=timedelta(milliseconds=50))
    assert row.token == owned.token
    assert row.record_id == owned.pk


STATES: list[tuple[S, bool]] = [
    (S.STARTED, True),
    (S.RETRYING, True),
    (S.UNKNOWN, True),
    (S.COMPLETED, False),
    (S.FAILED, False),
]


@pytest.mark.parametrize("after", S)
@pytest.mark.parametrize(("before", "open_"), STATES)
def test_step_that_is_over_never_changes(
    before: S, open_: bool, after: S, journal: Journal, owned: IdempotencyRecord
) -> None:
    """Later steps were built on its result, so a late writer changes nothing."""
    assert journal.add(owned.pk, owned.token, an_entry(before, error="first"), mark="")
    changed = journal.change(owned.pk, owned.token, an_entry(after, error="second"), mark="")
    assert changed is open_
    row = step("ride")
    assert (row.status, row.error) == ((after, "second") if open_ else (before, "first"))
    assert bool(row.completed_at) == (row.status in (S.COMPLETED, S.FAILED))


STRANGERS: dict[str, dict[str, Any]] = {
    "taken over": {"token": uuid.UUID(int=7)},
    "released": {"status": Status.RELEASED},
}


@pytest.mark.parametrize("values", STRANGERS.values(), ids=STRANGERS)
def test_without_owning_the_record_nothing_is_written(
    values: dict[str, Any], journal: Journal, owned: IdempotencyRecord
) -> None:
    """No heartbeat, no new step, no change of an old one."""
    assert journal.add(owned.pk, owned.token, an_entry(S.RETRYING), mark="")
    IdempotencyRecord.objects.update(**values)
    before = record().lease_expires_at
    assert not journal.add(owned.pk, owned.token, an_entry(name="pay"), mark="")
    assert not journal.change(owned.pk, owned.token, an_entry(), mark="")
    assert not journal.beat(owned.pk, owned.token, LEASE * 2, wait=None, mark="m")
    assert not journal.beat(owned.pk, owned.token, LEASE * 2, wait=1, mark="m")
    assert steps() == {"ride": "retrying"}
    assert record().lease_expires_at == before


@pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL needs no mark")
def test_step_without_the_mark_of_its_transaction_is_not_recorded(
    journal: Journal, owned: IdempotencyRecord
) -> None:
    """If the mark is gone, it was rolled back, and the step's rows with it."""
    assert journal.beat(owned.pk, owned.token, LEASE, wait=None, mark="mine")
    assert not journal.add(owned.pk, owned.token, an_entry(S.RETRYING), mark="other")
    assert journal.add(owned.pk, owned.token, an_entry(S.RETRYING), mark="mine")
    assert not journal.change(owned.pk, owned.token, an_entry(), mark="other")
    assert journal.change(owned.pk, owned.token, an_entry(), mark="mine")


def test_no_two_transactions_have_the_same_mark(
    key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one of an earlier transaction, which committed, would vouch for a later one."""
    marks = []
    original = Journal.beat

    def beat(self: Journal, *args: Any, mark: str, **kwargs: Any) -> bool:
        marks.append(mark)
        return original(self, *args, mark=mark, **kwargs)

    monkeypatch.setattr(Journal, "beat", beat)
    fails = fails_first(nothing, DownError(), DownError())

    @plays
    def act(op: Any) -> None:
        for _ in range(2):
            with pytest.raises(DownError):
                op.step("a" * 240, fails)
        op.step("a" * 240, fails)
        op.heartbeat()
        op.heartbeat()

    assert post("/plain/", key).status_code == 201
    assert len(marks) == len(set(marks)) == 7
    assert max(map(len, marks)) <= 255


def test_one_step_has_one_row(journal: Journal, owned: IdempotencyRecord) -> None:
    """The database says so."""
    assert journal.add(owned.pk, owned.token, an_entry(), mark="")
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        journal.add(owned.pk, owned.token, an_entry(), mark="")
    with pytest.raises(Exception, match=r"(?i)constraint"):
        IdempotencyStep.objects.update(status="lost")


@pytest.fixture
def cut(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A list of numbers: each COMMIT counts the first one down, and at 0 lands and then raises."""
    countdown: list[int] = []
    original = connection._commit

    def commit() -> None:
        original()
        if countdown:
            countdown[0] -= 1
            if countdown[0] == 0:
                countdown.pop()
                raise OperationalError("the network is gone")

    monkeypatch.setattr(connection, "_commit", commit)
    yield countdown
    connection.close()


@pytest.mark.parametrize("failed_before", [False, True], ids=["first", "retried"])
def test_commit_of_a_step_that_lands_and_raises_is_found(
    failed_before: bool, key: str, post: Post, cut: list[int]
) -> None:
    """The failed COMMIT is not noted as a failure: the next attempt resumes after the step."""
    baked = fails_first(bake) if failed_before else bake
    cuts = [1]

    def ride() -> Any:
        done = baked()
        if cuts:
            cut.append(cuts.pop())
        return done

    plays(lambda op: op.step("ride", ride))
    if failed_before:
        assert post("/plain/", key).status_code == 500
        assert steps() == {"ride": "retrying"}
    assert post("/plain/", key).status_code in (409, 500, 503)
    assert steps() == {"ride": "completed"}
    assert outcome(post("/plain/", key))["pk"] == Order.objects.get().pk
    assert runs("bake lemon") == 1 + failed_before


@pytest.mark.parametrize("started", [False, True], ids=["at-least-once", "at-most-once"])
def test_commit_of_a_call_that_lands_and_raises_is_found(
    started: bool, key: str, post: Post, cut: list[int]
) -> None:
    """The call is not made again."""
    service = Service()
    cuts = [1 + started]

    @plays
    def act(op: Any) -> Any:
        if cuts:
            cut.append(cuts.pop())
        semantics = "at_most_once" if started else "at_least_once"
        return op.call("charge", service, semantics=semantics)["id"]

    assert post("/plain/", key).status_code in (409, 500, 503)
    assert steps() == {"charge": "completed"}
    assert outcome(post("/plain/", key))
    assert len(service.keys) == 1


def test_call_whose_beginning_may_not_be_recorded_is_not_made(
    key: str, post: Post, cut: list[int]
) -> None:
    """At most once: the COMMIT of STARTED raised. A later attempt may ask, and learns: nothing."""
    service = Service()
    cuts = [1]

    @plays
    def act(op: Any) -> Any:
        if cuts:
            cut.append(cuts.pop())
        return op.call("mail", service, semantics="at_most_once")

    assert post("/plain/", key).status_code in (409, 500, 503)
    assert service.keys == []
    assert code(post("/plain/", key)) == "idempotency_outcome_unknown"
    assert service.keys == []


def test_locked_record_is_waited_for_and_not_lost(key: str, post: Post) -> None:
    """A prober held the row at that moment; at the second try it is free."""
    original = Journal.beat
    refused: list[float | None] = []

    def beat(self: Journal, *args: Any, wait: float | None, **kwargs: Any) -> bool:
        if not refused:
            refused.append(wait)
            raise RowLockedError
        refused.append(wait)
        return original(self, *args, wait=wait, **kwargs)

    plays(lambda op: op.step("ride", bake))
    with mock.patch.object(Journal, "beat", beat):
        assert outcome(post("/plain/", key))
    assert refused == [None, 1.0]
    assert Order.objects.count() == 1


@pytest.mark.parametrize("error", [RowLockedError, TransitionError, OperationalError])
def test_record_that_cannot_be_held_does_not_keep_the_key(
    error: type[Exception], key: str, post: Post
) -> None:
    """Nothing ran, and the next request need not wait until the lease is over."""
    plays(lambda op: op.step("ride", bake))
    with mock.patch.object(Journal, "beat", side_effect=error):
        assert post("/plain/", key).status_code in (409, 500, 503)
    assert record().status == Status.RELEASED
    assert runs("bake lemon") == 0
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == 1


def test_times_of_steps_are_the_database_s(key: str, post: Post) -> None:
    """In UTC, wherever the server stands."""
    plays(lambda op: op.step("ride", bake))
    post("/plain/", key)
    for moment in (step("ride").started_at, step("ride").completed_at):
        assert isinstance(moment, datetime)
        assert moment == pytest.approx(timezone.now(), abs=timedelta(seconds=5))


def test_dead_worker_s_steps_are_loaded_after_a_takeover(key: str, post: Post) -> None:
    """With what it noted of a failure."""
    pay = fails_first(lambda: "done")
    plays(lambda op: [op.step("ride", bake)["pk"], op.step("pay", pay)])
    assert post("/plain/", key).status_code == 500
    die()
    assert outcome(post("/plain/", key)) == [Order.objects.get().pk, "done"]
    assert step("pay").attempt == 2
