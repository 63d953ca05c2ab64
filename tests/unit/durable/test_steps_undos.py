"""A step that failed for good: what was done before is taken back, and every attempt ends alike."""

from datetime import timedelta
from typing import Any

import pytest
from django.http import JsonResponse
from pytest_django import Settings

from django_idempotency.durable.steps import Steps
from django_idempotency.exceptions import OperationFailedError
from django_idempotency.models import IdempotencyStep, Status
from django_idempotency.retry import Retry
from tests.app import effects
from tests.app.models import Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DiedError,
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

pytestmark = ON_STAGE

FATAL = (DeclinedError,)


class StolenError(DeclinedError):
    """A kind of no."""


def declines(*args: Any, **kwargs: Any) -> None:
    """No."""
    effects.happened("declined")
    raise DeclinedError("no")


def throw_away(cake: dict[str, Any]) -> str:
    """What undoes baking."""
    effects.happened(f"undo {cake['pk']}")
    Order.objects.get(pk=cake["pk"]).delete()
    return "thrown away"


class Refunds(Service):
    """What undoes a charge."""


class Trip:
    """A ride, a charge, a parcel, and then a service that declines."""

    def __init__(self, *errors: Any) -> None:
        self.charges = Service()
        self.refunds = Refunds(*errors)
        self.decline: Any = declines

    def __call__(self, op: Any) -> Any:
        op.step("ride", bake, undo=throw_away)
        charge = op.call("charge", self.charges, 5, undo=self.refunds)
        op.step("note", bake, "note")
        op.step("pack", bake, "parcel", key=1, undo=throw_away)
        return op.call("ship", self.decline, charge["id"], fatal=FATAL)


def order() -> list[str]:
    """The undos, as they were recorded."""
    undos = IdempotencyStep.objects.filter(kind="undo", status="completed").order_by("pk")
    return list(undos.values_list("name", flat=True))


def test_fatal_failure_takes_back_what_was_done_the_last_first(key: str, post: Post) -> None:
    """Steps as steps, calls as calls; what has no undo stays."""
    trip = plays(Trip())
    reply = post("/plain/", key)
    assert (reply.status_code, code(reply)) == (409, "idempotency_operation_failed")
    assert "Retry-After" not in reply
    assert order() == ["undo:pack[1]", "undo:charge", "undo:ride"]
    assert (record().status, record().error) == (Status.RELEASED, "OperationFailedError")
    assert Order.objects.count() == runs("bake note") == 1
    (charge,) = trip.charges.ledger.values()
    (refund,) = trip.refunds.ledger.values()
    assert refund["args"] == [charge]
    assert set(trip.charges.keys).isdisjoint(trip.refunds.keys)
    assert step("ship").status == "failed"
    assert step("ship").error == "DeclinedError"
    assert step("ship").completed_at


@pytest.mark.parametrize("killed", [False, True], ids=["raised", "died"])
def test_every_later_attempt_comes_to_the_same_end(killed: bool, key: str, post: Post) -> None:
    """No service is called again, and nothing is taken back twice."""
    trip = plays(Trip())
    first = post("/plain/", key)
    for _ in range(3):
        if killed:
            die()
        assert post("/plain/", key).content == first.content
    assert runs("declined") == 1
    assert len(trip.charges.keys) == len(trip.refunds.keys) == 1
    assert effects.count() == 1 + 3 + 2
    # A service that has changed its mind is not asked either.
    trip.decline = Service()
    assert code(post("/plain/", key)) == "idempotency_operation_failed"


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("ended", ["raised", "died"])
def test_undoing_that_was_cut_off_goes_on(
    ended: str, position: int, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first undo, between two, after the last: each is done once in the end."""
    trip = plays(Trip())
    done: list[str] = []
    error: BaseException = DownError() if ended == "raised" else DiedError()

    def cut(number: int) -> None:
        if number == position and not done:
            done.append("cut")
            raise error

    begin_work, take_all_back = Steps._begin, Steps._undo

    def begin(self: Steps, work: Any) -> Any:
        if work.kind == "undo":
            cut(len(order()))
        return begin_work(self, work)

    def take_back(self: Steps) -> None:
        take_all_back(self)
        cut(3)

    monkeypatch.setattr(Steps, "_begin", begin)
    monkeypatch.setattr(Steps, "_undo", take_back)
    if ended == "raised":
        assert post("/plain/", key).status_code == 500
    else:
        with pytest.raises(DiedError):
            post("/plain/", key)
        die()
    assert done == ["cut"]
    assert len(order()) == position
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert order() == ["undo:pack[1]", "undo:charge", "undo:ride"]
    assert Order.objects.count() == runs("declined") == 1
    assert len(trip.refunds.keys) == 1


def test_undo_that_fails_first_is_tried_again(key: str, post: Post) -> None:
    """By the next attempt; the undos after it wait for it."""
    trip = plays(Trip(DownError()))
    assert post("/plain/", key).status_code == 500
    assert record().error == "DownError"
    assert order() == ["undo:pack[1]"]
    assert step("undo:charge").status == "retrying"
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert order() == ["undo:pack[1]", "undo:charge", "undo:ride"]
    assert len(set(trip.refunds.keys)) == 1
    assert len(trip.refunds.keys) == 2


def test_undo_of_a_step_that_fails_leaves_its_rows(key: str, post: Post) -> None:
    """It is a step: rows and checkpoint, or neither."""
    half = fails_first(throw_away)

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake, undo=half)
        op.step("pay", declines, fatal=FATAL)

    assert post("/plain/", key).status_code == 500
    assert Order.objects.count() == 1
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert Order.objects.count() == 0


def test_undo_of_a_call_is_retried_as_the_call(key: str, post: Post) -> None:
    """Within the request; used up, the operation is pending until it is undone."""
    refunds = Service(*[DownError()] * 4)
    retry = Retry(attempts=3, base=timedelta())

    @plays
    def act(op: Any) -> Any:
        op.call("charge", Service(), retry=retry, undo=refunds, timeout=timedelta(seconds=1))
        op.step("pay", declines, fatal=FATAL)

    assert code(post("/plain/", key)) == "idempotency_operation_pending"
    assert len(refunds.keys) == 3
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert len(refunds.keys) == 5
    assert len(set(refunds.keys)) == 1


def test_undo_gets_the_result_as_it_was_recorded(key: str, post: Post) -> None:
    """And its key, and nothing else, whatever arguments the call had."""
    given: list[Any] = []

    def refund(result: Any, *, idempotency_key: str) -> None:
        given.append((result, idempotency_key))

    @plays
    def act(op: Any) -> Any:
        op.call("charge", lambda **kwargs: (1, 2), undo=refund, timeout=timedelta(seconds=3))
        op.step("ride", lambda: (3, 4), undo=lambda result: given.append(result))
        op.call("pay", declines, fatal=FATAL)

    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert given[0] == [3, 4]
    assert given[1][0] == [1, 2]


@pytest.mark.parametrize("door", ["/plain/", "/kept/"])
def test_view_may_answer_a_failure_in_its_own_words(door: str, key: str, post: Post) -> None:
    """402 is an outcome: kept and replayed, and the undos have run before."""
    trip = Trip()

    @plays
    def act(op: Any) -> Any:
        try:
            return trip(op)
        except OperationFailedError as error:
            assert Order.objects.count() == 1
            return JsonResponse({"step": error.step, "error": error.error}, status=402)

    first = post(door, key)
    assert first.status_code == 402
    assert first.json() == {"step": "ship", "error": "DeclinedError"}
    again = post(door, key)
    assert (again.status_code, again.content) == (402, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert runs("declined") == 1


def test_view_that_died_after_the_failure_answers_in_the_same_words(key: str, post: Post) -> None:
    """Step and class of the error stand in the table."""
    dies = fails_first(lambda: None, DiedError())

    @plays
    def act(op: Any) -> Any:
        try:
            op.step("pay", declines, fatal=FATAL)
        except OperationFailedError as error:
            dies()
            return JsonResponse({"step": error.step, "error": error.error}, status=402)

    with pytest.raises(DiedError):
        post("/plain/", key)
    assert post("/plain/", key).json() == {"step": "pay", "error": "DeclinedError"}
    assert runs("declined") == 1


def test_view_may_go_on_after_a_failure(key: str, post: Post) -> None:
    """What it does then is taken back by the next failure, and nothing twice."""
    refunds = Service()

    @plays
    def act(op: Any) -> Any:
        for card in ("first", "second"):
            op.call("reserve", Service(), key=card, undo=refunds)
            with pytest.raises(OperationFailedError):
                op.call("charge", declines, key=card, fatal=FATAL)
        return op.step("invoice", bake)

    assert outcome(post("/plain/", key))
    assert order() == ["undo:reserve[first]", "undo:reserve[second]"]
    assert len(refunds.keys) == 2


@pytest.mark.parametrize(
    "retry",
    [
        None,
        Retry(base=timedelta(), on=(DeclinedError,)),
        Retry(base=timedelta(), on=Exception),
        Retry(base=timedelta(), on=(DownError,)),
    ],
    ids=["none", "same", "all", "other"],
)
@pytest.mark.parametrize("fatal", [FATAL, DeclinedError, (DownError, DeclinedError)], ids=repr)
@pytest.mark.parametrize("error", [DeclinedError, StolenError])
def test_fatal_wins_over_retry(
    error: type[Exception], fatal: Any, retry: Retry | None, key: str, post: Post
) -> None:
    """A fatal error allows one call only, whatever may be retried."""
    service = Service(error())
    plays(lambda op: op.call("charge", service, retry=retry, fatal=fatal))
    for _ in range(2):
        assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert len(service.keys) == 1
    assert step("charge").error == error.__name__


def test_failure_after_some_tries_is_fatal(key: str, post: Post) -> None:
    """Down first, then a no."""
    service = Service(DownError(), DeclinedError())
    retry = Retry(base=timedelta(), on=Exception)
    plays(lambda op: op.call("charge", service, retry=retry, fatal=FATAL))
    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert step("charge").attempt == 2


def test_fatal_error_of_a_step_leaves_no_rows(key: str, post: Post) -> None:
    """It was rolled back, and is not undone: it was not done."""

    def ride() -> None:
        bake()
        raise DeclinedError

    @plays
    def act(op: Any) -> Any:
        op.step("ride", ride, fatal=FATAL, undo=throw_away)

    for _ in range(2):
        assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert Order.objects.count() == 0
    assert runs("bake lemon") == 1
    assert steps() == {"ride": "failed"}


def test_error_that_is_not_fatal_takes_nothing_back(key: str, post: Post) -> None:
    """The next attempt goes on."""
    pay = fails_first(lambda: "paid")

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake, undo=throw_away)
        return op.step("pay", pay, fatal=FATAL)

    assert post("/plain/", key).status_code == 500
    assert Order.objects.count() == 1
    assert outcome(post("/plain/", key)) == "paid"


def test_failed_operation_in_an_atomic_view_leaves_nothing(key: str, post: Post) -> None:
    """It is rolled back as a whole."""

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake, undo=throw_away)
        op.step("pay", declines, fatal=FATAL)

    assert code(post("/whole/", key)) == "idempotency_operation_failed"
    assert Order.objects.count() == 0
    assert steps() == {}


def test_failed_operation_in_an_atomic_view_may_be_answered(key: str, post: Post) -> None:
    """Its undos have run in the same transaction."""

    @plays
    def act(op: Any) -> Any:
        try:
            op.step("ride", bake, undo=throw_away)
            op.step("pay", declines, fatal=FATAL)
        except OperationFailedError as error:
            return JsonResponse({"step": error.step}, status=402)

    first = post("/whole/", key)
    assert first.json() == {"step": "pay"}
    assert post("/whole/", key).content == first.content
    assert Order.objects.count() == 0
    assert steps() == {"ride": "completed", "pay": "failed", "undo:ride": "completed"}


def test_failure_without_a_key_takes_back_too(post: Post) -> None:
    """The undos run, and nothing is recorded."""
    trip = plays(Trip())
    assert code(post("/plain/")) == "idempotency_operation_failed"
    assert Order.objects.count() == runs("bake note") == 1
    assert len(trip.refunds.keys) == 1
    assert not IdempotencyStep.objects.exists()


def test_renamed_step_is_undone_once(key: str, post: Post) -> None:
    """Its undo has the former names as well."""
    refunds = Service(*[DownError()])

    @plays
    def before(op: Any) -> Any:
        op.call("charge", Service(), undo=refunds)
        op.step("pay", declines, fatal=FATAL)

    assert post("/plain/", key).status_code == 500

    @plays
    def after(op: Any) -> Any:
        op.call("debit", Service(), undo=refunds, aliases=("charge",))
        op.step("pay", declines, fatal=FATAL)

    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert len(set(refunds.keys)) == 1
    assert order() == ["undo:charge"]


def test_longest_name_can_be_undone(key: str, post: Post) -> None:
    """The column has room for it."""
    name = "🍰" * 240

    @plays
    def act(op: Any) -> Any:
        op.step(name, bake, undo=throw_away)
        op.step("pay", declines, fatal=FATAL)

    assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert order() == [f"undo:{name}"]


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_result_that_cannot_be_recorded_is_no_fatal_failure(
    error: type[Exception], key: str, post: Post, settings: Settings
) -> None:
    """The call was made: nothing says that it failed, and nothing is taken back."""
    settings.IDEMPOTENCY_MAX_STEP_BYTES = 10
    result: Any = object() if error is TypeError else "x" * 99
    undone: list[Any] = []

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bool, undo=undone.append)
        return op.call("charge", lambda **kwargs: result, fatal=error)

    assert post("/plain/", key).status_code == 500
    assert record().error == error.__name__
    assert undone == []
    result = "done"
    assert outcome(post("/plain/", key)) == "done"
