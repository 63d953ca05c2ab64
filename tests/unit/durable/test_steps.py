"""Steps: rows and checkpoint are one, and a recorded step never runs again."""

import json
import logging
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.http import JsonResponse
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, IdempotencyStep, Status
from tests.app.models import Delivery, Order
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DownError,
    Service,
    bake,
    code,
    die,
    expire,
    fails_first,
    outcome,
    plays,
    record,
    runs,
    step,
    steps,
)

pytestmark = ON_STAGE

# An order that does not exist: its delivery fails the COMMIT, or the INSERT on MariaDB.
NO_ORDER = 2**31 - 1


@pytest.mark.parametrize("door", ["/plain/", "/whole/"])
def test_finished_operation_replays_and_runs_no_step(door: str, key: str, post: Post) -> None:
    """The reply is replayed; its steps stand in the table."""

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", bake)

    first = post(door, key)
    assert post(door, key).content == first.content
    assert Order.objects.count() == runs("bake lemon") == 1
    assert outcome(first)["pk"] == Order.objects.get().pk
    assert steps() == {"ride": "completed"}


class Journey:
    """Steps of every kind, of which the attempts end after one more each time."""

    def __init__(self) -> None:
        self.service = Service()
        self.seen: list[list[Any]] = []

    def __call__(self, op: Any) -> Any:
        seen: list[Any] = []
        self.seen.append(seen)
        for part in self.parts(op):
            seen.append(part)
            if len(seen) == len(self.seen) <= 5:
                raise DownError
        return seen

    def parts(self, op: Any) -> Any:
        """The result of each, as it is done."""
        yield op.step("ride", bake, "ride")
        yield op.call("charge", self.service, 5, currency="EUR")
        with op.atomic("paid") as block:
            if not block.recorded:
                block.result = (bake("paid"), 1)
        yield block.result
        yield op.step("pack", bake, "first", key=1)
        yield op.step("pack", bake, "second", key=2)


@pytest.mark.parametrize("killed", [False, True], ids=["raised", "died"])
def test_attempt_resumes_behind_its_last_step(killed: bool, key: str, post: Post) -> None:
    """After each of them once: each has one effect, and gives every attempt the same value."""
    journey = plays(Journey())
    for _ in range(5):
        assert post("/plain/", key).status_code == 500
        if killed:
            die()
    assert outcome(post("/plain/", key)) == journey.seen[-1]
    effects = ["ride", "paid", "first", "second"]
    assert Order.objects.count() == len(effects)
    assert [runs(f"bake {name}") for name in effects] == [1] * 4
    assert len(journey.service.keys) == 1
    assert list(steps()) == ["ride", "charge", "paid", "pack[1]", "pack[2]"]
    for seen in journey.seen:
        assert repr(seen) == repr(journey.seen[-1][: len(seen)])


def test_first_attempt_of_a_claim_that_died_before_any_step_runs_them_all(
    key: str, post: Post
) -> None:
    """A takeover that finds nothing recorded."""

    @plays
    def act(op: Any) -> Any:
        if op.attempt == 1:
            raise DownError
        return op.step("ride", bake)

    post("/plain/", key)
    die()
    assert outcome(post("/plain/", key))
    assert record().attempts == 2
    assert Order.objects.count() == 1


def test_exception_after_the_rows_leaves_neither_rows_nor_checkpoint(key: str, post: Post) -> None:
    """Only a trace for people; the next attempt runs the step again."""
    flaky = fails_first(bake, DownError(), DownError())

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", flaky)

    for number in (1, 2):
        assert post("/plain/", key).status_code == 500
        assert Order.objects.count() == 0
        trace = step("ride")
        assert (trace.status, trace.error, trace.attempt) == ("retrying", "DownError", number)
        assert trace.completed_at is None
        assert trace.output is None
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == 1
    assert runs("bake lemon") == 3
    last = step("ride")
    assert (last.status, last.error, last.attempt) == ("completed", "", 3)
    assert last.completed_at
    assert last.started_at <= last.completed_at


def test_failing_commit_of_a_step_leaves_neither_rows_nor_checkpoint(key: str, post: Post) -> None:
    """A constraint that is checked at COMMIT, after the checkpoint was written."""

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake)
        return op.step("deliver", lambda: Delivery.objects.create(order_id=NO_ORDER).pk)

    assert post("/plain/", key).status_code == 500
    assert steps() == {"ride": "completed", "deliver": "retrying"}
    assert step("deliver").error == "IntegrityError"
    assert Order.objects.count() == 1
    assert not Delivery.objects.exists()


def test_view_that_swallows_a_step_s_exception_goes_on(key: str, post: Post) -> None:
    """And its reply is kept, with the steps that were done."""
    flaky = fails_first(bake)

    @plays
    def act(op: Any) -> Any:
        try:
            return op.step("lemon", flaky)
        except DownError:
            return op.step("apple", bake, "apple")

    first = post("/plain/", key)
    assert outcome(first)
    assert Order.objects.count() == 1
    assert runs("bake apple") == 1
    assert steps() == {"lemon": "retrying", "apple": "completed"}
    assert post("/plain/", key).content == first.content


def test_view_may_try_a_failed_step_again_in_the_same_attempt(key: str, post: Post) -> None:
    """Its name is used once it is done."""
    flaky = fails_first(bake)

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            op.step("ride", flaky)
        return op.step("ride", flaky)

    assert outcome(post("/plain/", key))
    assert Order.objects.count() == 1
    assert step("ride").attempt == 2


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
@pytest.mark.parametrize("door", ["/plain/", "/whole/"])
def test_step_whose_transaction_is_marked_for_rollback_is_none(
    door: str, keyed: bool, key: str, post: Post
) -> None:
    """With and without a key: no result for rows that are not there."""

    def marked() -> Any:
        done = bake()
        transaction.set_rollback(True)
        return done

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", marked)

    assert post(door, key if keyed else None).status_code == 500
    assert Order.objects.count() == 0
    assert steps() in ({}, {"ride": "retrying"})


@pytest.mark.skipif(connection.vendor != "postgresql", reason="an error aborts nothing elsewhere")
@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_step_that_swallows_an_error_of_the_database_is_none(
    keyed: bool, key: str, post: Post
) -> None:
    """PostgreSQL makes a rollback of its COMMIT, and says nothing."""

    def aborted() -> Any:
        done = bake()
        with connection.cursor() as cursor, pytest.raises(DatabaseError):
            cursor.execute("SELECT nothing FROM nowhere")
        return done

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", aborted)

    assert post("/plain/", key if keyed else None).status_code == 500
    assert Order.objects.count() == 0
    assert steps() in ({}, {"ride": "retrying"})


def test_exception_in_an_atomic_view_takes_its_steps_along(key: str, post: Post) -> None:
    """All of the view is one transaction: nothing is left of them, and they run again."""
    flaky = fails_first()

    @plays
    def act(op: Any) -> Any:
        done = op.step("ride", bake)
        flaky()
        return done

    assert post("/whole/", key).status_code == 500
    assert Order.objects.count() == 0
    assert steps() == {}
    assert outcome(post("/whole/", key))
    assert Order.objects.count() == 1
    assert runs("bake lemon") == 2
    assert steps() == {"ride": "completed"}


def test_atomic_view_whose_failed_step_is_swallowed_keeps_the_others(key: str, post: Post) -> None:
    """A step is a savepoint there."""
    flaky = fails_first(bake)

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            op.step("lemon", flaky)
        return op.step("apple", bake, "apple")

    assert outcome(post("/whole/", key))
    assert Order.objects.count() == 1
    assert steps() == {"apple": "completed"}


def test_atomic_view_that_releases_keeps_its_steps_with_its_writes(key: str, post: Post) -> None:
    """A 409 is no outcome: what was done is done, and is not done again."""

    @plays
    def act(op: Any) -> Any:
        done = op.step("ride", bake)
        return done if runs("bake lemon") and busy.pop() else JsonResponse({}, status=409)

    busy = [True, False]
    assert post("/whole/", key).status_code == 409
    assert record().status == Status.RELEASED
    assert outcome(post("/whole/", key))["pk"] == Order.objects.get().pk
    assert runs("bake lemon") == 1


@pytest.mark.parametrize("door", ["/plain/", "/whole/"])
def test_steps_run_plainly_without_a_key(door: str, post: Post) -> None:
    """In the same transactions, and nothing is recorded."""

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            op.step("fails", fails_first(bake))
        done = op.step("ride", bake, "ride")
        with op.atomic("paid") as block:
            assert not block.recorded
            block.result = (done["pk"],)
        op.heartbeat()
        return block.result

    assert outcome(post(door)) == [Order.objects.get().pk]
    assert outcome(post(door))
    assert Order.objects.count() == 2
    assert not IdempotencyStep.objects.exists()
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_name_that_was_used_is_refused(keyed: bool, key: str, post: Post) -> None:
    """A loop that forgot its key would get the first round's result in every round."""

    @plays
    def act(op: Any) -> Any:
        op.step("pack", bake)
        with pytest.raises(ValueError, match=r"'pack'.* loops need key="):
            op.step("pack", bake)
        with pytest.raises(ValueError, match="'pack'"), op.atomic("pack"):
            pass
        with pytest.raises(ValueError, match="'pack'"):
            op.call("pack", Service())
        return op.step("pack", bake, key="another")

    assert outcome(post("/plain/", key if keyed else None))
    assert Order.objects.count() == 2


def test_recorded_name_that_was_used_is_refused_in_later_attempts_too(key: str, post: Post) -> None:
    """The same mistake is the same error, resumed or not."""

    @plays
    def act(op: Any) -> Any:
        op.step("pack", bake)
        op.step("pack", bake)

    for _ in range(2):
        assert post("/plain/", key).status_code == 500
        assert record().error == "ValueError"
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    "keys",
    [(1, 2, 10), ("a", "A", "ä", "b"), ("a", "a ", "a  "), (0, False), ("", " "), ("€", "🍰")],
    ids=repr,
)
def test_rounds_of_a_loop_are_told_apart_by_their_keys(
    keys: tuple[Any, ...], key: str, post: Post
) -> None:
    """By every character, whatever the database thinks of case and accents."""
    flaky = fails_first()

    @plays
    def act(op: Any) -> Any:
        done = [op.step("pack", bake, str(each), key=each) for each in keys]
        flaky()
        return done

    assert post("/plain/", key).status_code == 500
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == len(keys)


@pytest.mark.parametrize("name", ["", "x" * 241])
def test_name_of_impossible_length_is_refused(name: str, key: str, post: Post) -> None:
    """Before anything runs."""

    @plays
    def act(op: Any) -> Any:
        for do in (op.step, op.call):
            with pytest.raises(ValueError, match="1 to 240 characters"):
                do(name, bake)
        with pytest.raises(ValueError, match="1 to 240 characters"):
            op.atomic(name)
        with pytest.raises(ValueError, match="1 to 240 characters"):
            op.step("ok", bake, aliases=(name,))
        with pytest.raises(ValueError, match="1 to 240 characters"):
            op.step("x" * 238, bake, key=1)

    assert post("/plain/", key).status_code == 201
    assert runs("bake lemon") == 0


@pytest.mark.parametrize("letter", ["x", "€", "🍰"])
def test_longest_name_is_stored_as_it_is(letter: str, key: str, post: Post) -> None:
    """The column holds it, with what an undo puts before it."""
    name = letter * 240
    flaky = fails_first()

    @plays
    def act(op: Any) -> Any:
        done = op.step(name, bake)
        flaky()
        return done

    post("/plain/", key)
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == 1
    assert list(steps()) == [name]


@pytest.mark.parametrize("name", ["undo:ride", "ride ", "ride\t", "ri\0de"], ids=repr)
def test_name_that_could_be_taken_for_another_is_refused(name: str, key: str, post: Post) -> None:
    """By an undo, or by a database."""

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(ValueError, match="cannot be called"):
            op.step(name, bake)
        with pytest.raises(ValueError, match="cannot be called"):
            op.step("ride", bake, aliases=(name,))

    assert post("/plain/", key).status_code == 201
    assert runs("bake lemon") == 0


def test_renamed_step_is_found_under_its_former_name(key: str, post: Post) -> None:
    """A deployment between two attempts; what is recorded keeps its name."""
    flaky = fails_first()

    @plays
    def before(op: Any) -> Any:
        op.step("ride", bake, key=1)
        flaky()

    post("/plain/", key)

    @plays
    def after(op: Any) -> Any:
        aliases = ("trip", "ride")
        return [
            op.step("journey", bake, key=1, aliases=aliases),
            op.step("journey", bake, key=2, aliases=aliases),
        ]

    assert len(outcome(post("/plain/", key))) == 2
    assert Order.objects.count() == 2
    assert list(steps()) == ["ride[1]", "journey[2]"]


def test_failed_step_that_is_renamed_is_tried_again_under_its_row(key: str, post: Post) -> None:
    """It gets no second row in addition to the one of its former name."""
    flaky = fails_first(bake)

    @plays
    def before(op: Any) -> Any:
        op.step("ride", flaky)

    post("/plain/", key)

    @plays
    def after(op: Any) -> Any:
        return op.step("journey", flaky, aliases=("ride",))

    assert outcome(post("/plain/", key))
    assert steps() == {"ride": "completed"}
    assert step("ride").attempt == 2


def test_step_inside_a_step_is_refused(key: str, post: Post) -> None:
    """Its checkpoint would commit with the outer one, or not at all."""

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(RuntimeError, match="durable"):
            op.step("outer", lambda: (bake(), op.step("inner", bake)))
        return op.step("after", bake, "after")

    assert outcome(post("/plain/", key))
    assert Order.objects.count() == 1
    assert steps() == {"outer": "retrying", "after": "completed"}


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_step_inside_the_view_s_own_transaction_is_refused(
    keyed: bool, key: str, post: Post
) -> None:
    """It could be rolled back after it was taken for done."""

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
            op.step("ride", bake)
        return op.step("ride", bake)

    assert outcome(post("/plain/", key if keyed else None))
    assert Order.objects.count() == runs("bake lemon") == 1


def test_call_inside_a_transaction_is_refused(key: str, post: Post) -> None:
    """It would stay open, with its locks, as long as the call takes."""
    service = Service()

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
            op.call("charge", service)
        with pytest.raises(transaction.TransactionManagementError), op.atomic("paid"):
            op.call("charge", service)
        return op.call("charge", service)["id"]

    assert outcome(post("/plain/", key))
    assert len(service.keys) == 1


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_call_in_an_atomic_view_is_refused(keyed: bool, key: str, post: Post) -> None:
    """The advice is in the error."""
    service = Service()

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(transaction.TransactionManagementError, match="atomic=False"):
            op.call("charge", service)

    assert post("/whole/", key if keyed else None).status_code == 201
    assert service.keys == []


def _cake_for(op: Any) -> str:
    return str(op.request.headers.get("X-Cake", "lemon"))


def _half_done(key: str, post: Post, door: str = "/plain/") -> None:
    """An operation whose first step is recorded, and that failed after it."""
    plays(fails_first(lambda op: op.step("ride", bake, _cake_for(op))))
    assert post(door, key).status_code == 500


def test_changed_arguments_of_a_recorded_step_are_an_error(key: str, post: Post) -> None:
    """The program is not the one that made the checkpoint."""
    _half_done(key, post)
    assert post("/plain/", key, **{"X-Cake": "apple"}).status_code == 500
    assert record().error == "StepDriftError"
    assert outcome(post("/plain/", key))
    assert runs("bake lemon") == Order.objects.count() == 1


def test_changed_arguments_may_be_a_warning(
    key: str, post: Post, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """What is recorded counts."""
    settings.IDEMPOTENCY_STEP_DRIFT = "warn"
    _half_done(key, post)
    with caplog.at_level(logging.WARNING, "django_idempotency"):
        reply = post("/plain/", key, **{"X-Cake": "apple"})
    assert outcome(reply)["pk"] == Order.objects.get().pk
    assert runs("bake apple") == 0
    assert "'ride' was recorded with other arguments" in caplog.text


def test_changed_arguments_of_a_failed_step_are_welcome(key: str, post: Post) -> None:
    """It left nothing, so nothing contradicts them."""
    flaky = fails_first(bake)
    plays(lambda op: op.step("ride", flaky, _cake_for(op)))
    assert post("/plain/", key).status_code == 500
    assert outcome(post("/plain/", key, **{"X-Cake": "apple"}))
    assert Order.objects.count() == 1


@pytest.mark.parametrize("door", ["/plain/", "/kept/"])
def test_other_request_after_recorded_steps_is_refused(door: str, key: str, post: Post) -> None:
    """They were made for the first one; it still can be finished."""
    _half_done(key, post, door)
    assert record().status == Status.RELEASED
    other = post(door, key, body={"cake": "apple"})
    assert (other.status_code, code(other)) == (422, "idempotency_key_reused")
    assert outcome(post(door, key))
    assert Order.objects.count() == 1


def test_other_request_after_the_steps_of_an_atomic_view_is_refused(key: str, post: Post) -> None:
    """It released its key with its writes, and those are recorded."""
    busy = [True, False]

    @plays
    def act(op: Any) -> Any:
        done = op.step("ride", bake)
        return done if busy.pop() else JsonResponse({}, status=409)

    assert post("/whole/", key).status_code == 409
    assert post("/whole/", key, body={"cake": "apple"}).status_code == 422
    assert outcome(post("/whole/", key))
    assert runs("bake lemon") == 1


def test_other_request_after_an_atomic_view_without_steps_runs(key: str, post: Post) -> None:
    """Nothing is recorded of the first."""
    flaky = fails_first()

    @plays
    def act(op: Any) -> Any:
        flaky()
        return op.step("ride", bake)

    assert post("/whole/", key).status_code == 500
    assert outcome(post("/whole/", key, body={"cake": "apple"}))
    assert Order.objects.count() == 1


@pytest.mark.parametrize("other", [False, True], ids=["same-request", "other-request"])
@pytest.mark.parametrize("finished", [False, True], ids=["released", "completed"])
def test_new_life_of_a_key_sees_no_old_steps(
    finished: bool, other: bool, key: str, post: Post
) -> None:
    """Its retention is over: the operation is another one."""
    _half_done(key, post)
    if finished:
        assert outcome(post("/plain/", key))
    expire()
    first = set(IdempotencyStep.objects.values_list("pk", flat=True))
    body = {"cake": "apple"} if other else None
    assert outcome(post("/plain/", key, body=body))
    assert Order.objects.count() == runs("bake lemon") == 2
    assert steps() == {"ride": "completed"}
    assert not IdempotencyStep.objects.filter(pk__in=first).exists()
    assert record().attempts == 1


def test_attempt_that_ran_out_of_its_retention_still_resumes(key: str, post: Post) -> None:
    """In progress never expires: its worker died, and what it recorded counts."""
    _half_done(key, post)
    die()
    expire()
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == runs("bake lemon") == 1


def test_attempts_of_a_step_are_counted_over_all_requests(key: str, post: Post) -> None:
    """The row shows how many there were; its token is that of the last attempt."""
    flaky = fails_first(lambda: None, *[DownError()] * 3)
    tokens: set[uuid.UUID] = set()

    @plays
    def act(op: Any) -> Any:
        op.step("hard", flaky)

    for number in range(1, 5):
        post("/plain/", key)
        assert step("hard").attempt == number
        assert step("hard").token == record().token
        tokens.add(step("hard").token)
    assert len(tokens) == 4


def test_step_inside_a_rolled_back_block_of_an_atomic_view_is_not_taken_for_done(
    key: str, post: Post
) -> None:
    """The view rolled back to its own savepoint: the result of rows that are gone is not used."""

    def rolled_back(op: Any) -> None:
        with transaction.atomic():
            op.step("ride", bake)
            raise DownError

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            rolled_back(op)
        return op.step("ride", bake)

    assert post("/whole/", key).status_code == 500
    assert record().error == "ValueError"
    assert Order.objects.count() == 0
    assert steps() == {}


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_block_that_is_left_early_is_done(keyed: bool, key: str, post: Post) -> None:
    """A return in the middle of it; its rows and what it has set so far are committed."""

    def leaves(op: Any) -> Any:
        with op.atomic("ride") as block:
            if block.recorded:
                return block.result
            block.result = bake()["pk"]
            return "early"

    @plays
    def act(op: Any) -> Any:
        return leaves(op)

    assert outcome(post("/plain/", key if keyed else None)) == "early"
    assert Order.objects.count() == 1
    if keyed:
        assert steps() == {"ride": "completed"}
        die_and_ask_again(key, post)


def die_and_ask_again(key: str, post: Post) -> None:
    """The reply was never saved, but the block is recorded, and its result is used."""
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(status=Status.RELEASED, **dict.fromkeys(answer))
    assert outcome(post("/plain/", key)) == Order.objects.get().pk


def test_recorded_block_keeps_its_result(key: str, post: Post) -> None:
    """Whatever is set in it later; and what is raised in it is raised."""
    fails = fails_first()
    seen = []

    @plays
    def act(op: Any) -> Any:
        with op.atomic("ride") as block:
            seen.append((block.recorded, block.result))
            block.result = (1, 2)
        fails()
        with pytest.raises(DownError), op.atomic("pay"):
            raise DownError
        return block.result

    assert post("/plain/", key).status_code == 500
    assert post("/plain/", key).status_code == 201
    assert seen == [(False, None), (True, [1, 2])]
    assert json.loads(bytes(step("ride").output or b"")) == [1, 2]
    assert steps() == {"ride": "completed", "pay": "retrying"}
