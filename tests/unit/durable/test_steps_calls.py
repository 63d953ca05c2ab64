"""Calls of other services: at least once, always with the same key, and recorded after they came
back.
"""

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, IdempotencyStep, Status
from django_idempotency.retry import Retry
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DiedError,
    DownError,
    Service,
    code,
    die,
    expire,
    fails_first,
    outcome,
    plays,
    record,
    step,
    steps,
)

pytestmark = ON_STAGE

#: Without pauses.
AT_ONCE = Retry(attempts=3, base=timedelta())


def test_call_is_made_outside_of_any_transaction(key: str, post: Post) -> None:
    """However long it takes, it holds no lock."""
    seen = []

    @plays
    def act(op: Any) -> Any:
        return op.call("charge", lambda **kwargs: seen.append(connection.in_atomic_block))

    assert post("/plain/", key).status_code == 201
    assert seen == [False]


@pytest.mark.parametrize("ended", ["raised", "died"])
def test_call_that_was_cut_off_is_made_again_with_the_same_key(
    ended: str, key: str, post: Post
) -> None:
    """The service has done it already, and knows the key."""
    error = DownError() if ended == "raised" else DiedError()
    service = Service((error,))

    @plays
    def act(op: Any) -> Any:
        return op.call("charge", service, 5, currency="EUR")

    if ended == "died":
        with pytest.raises(DiedError):
            post("/plain/", key)
        die()
    else:
        assert post("/plain/", key).status_code == 500
        trace = step("charge")
        assert (trace.status, trace.error, trace.attempt) == ("retrying", "DownError", 1)
    (entry,) = service.ledger.values()
    assert outcome(post("/plain/", key)) == entry
    assert service.keys == [service.keys[0]] * 2
    assert len(service.ledger) == 1
    assert (entry["args"], entry["currency"]) == ([5], "EUR")


def test_recorded_call_is_not_made_again(key: str, post: Post) -> None:
    """The attempt failed after it."""
    service = Service()
    plays(fails_first(lambda op: op.call("charge", service)))
    assert post("/plain/", key).status_code == 500
    assert outcome(post("/plain/", key)) == next(iter(service.ledger.values()))
    assert len(service.keys) == 1


def downstream(post: Post, key: str, name: str = "charge", round_: Any = None, **sent: Any) -> str:
    """The key that a call has in a request, after which the key's life is over."""
    service = Service()
    plays(lambda op: op.call(name, service, key=round_))
    outcome(post("/plain/", key, **sent))
    expire()
    return service.keys[0]


def test_downstream_key_depends_on_request_and_name_only(key: str, post: Post) -> None:
    """Not on a row, an attempt or a moment: a database that lost it all makes the same one."""
    first = downstream(post, key)
    assert uuid.UUID(first).version == 5
    assert downstream(post, key) == first
    IdempotencyStep.objects.all().delete()
    IdempotencyRecord.objects.all().delete()
    assert downstream(post, key) == first
    others = [
        downstream(post, uuid.uuid4().hex),
        downstream(post, key, "refund"),
        downstream(post, key, round_=1),
        downstream(post, key, body={"cake": "apple"}),
        downstream(post, key, Authorization="Bearer x"),
    ]
    assert len({first, *others}) == len(others) + 1


def test_downstream_key_is_the_same_in_every_attempt_and_try(key: str, post: Post) -> None:
    """Three attempts of two tries each."""
    service = Service(*[DownError()] * 5)

    @plays
    def act(op: Any) -> Any:
        retry = Retry(attempts=2, base=timedelta())
        return op.call("charge", service, retry=retry), op.downstream_key("charge")

    for _ in range(2):
        assert post("/plain/", key).status_code == 503
    _, told = outcome(post("/plain/", key))
    assert service.keys == [told] * 6


def test_renamed_call_keeps_its_downstream_key(key: str, post: Post) -> None:
    """That of its oldest name, whether anything is recorded under it or not."""
    service = Service(*[DiedError()] * 2)
    for names in (("charge",), ("pay", "charge"), ("debit", "pay", "charge")):
        name, *aliases = names

        @plays
        def act(op: Any, name: str = name, aliases: list[str] = aliases) -> Any:
            return op.call(name, service, aliases=tuple(aliases))

        if name == "debit":
            assert outcome(post("/plain/", key))
        else:
            with pytest.raises(DiedError):
                post("/plain/", key)
    assert len(set(service.keys)) == 1
    assert len(service.keys) == 3
    assert steps() == {"debit": "completed"}


def test_calls_of_a_loop_have_keys_of_their_own(key: str, post: Post) -> None:
    """Each round is a call."""
    service = Service()
    plays(lambda op: [op.call("charge", service, number, key=number)["id"] for number in range(3)])
    assert len(set(outcome(post("/plain/", key)))) == 3
    assert len(set(service.keys)) == 3


def test_call_without_a_key_gets_a_fresh_one(post: Post) -> None:
    """One for all its tries, and another one for each request."""
    service = Service(DownError())
    plays(lambda op: op.call("charge", service, retry=AT_ONCE))
    for _ in range(2):
        assert outcome(post("/plain/"))
    first, second, third = service.keys
    assert first == second != third
    assert uuid.UUID(third).version == 4
    assert not IdempotencyStep.objects.exists()


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_tries_within_a_request_are_one_call(keyed: bool, key: str, post: Post) -> None:
    """The client notices nothing."""
    service = Service(DownError(), (DownError(),))
    plays(lambda op: op.call("charge", service, retry=AT_ONCE))
    assert outcome(post("/plain/", key if keyed else None))
    assert len(service.keys) == 3
    assert len(service.ledger) == 1
    if keyed:
        assert (step("charge").attempt, step("charge").error) == (3, "")


@pytest.mark.parametrize("keyed", [True, False], ids=["key", "no-key"])
def test_tries_that_are_used_up_are_a_pending_operation(keyed: bool, key: str, post: Post) -> None:
    """503 and when to come back; with a key the next attempt goes on, with as many tries."""
    service = Service(*[DownError()] * 4)

    @plays
    def act(op: Any) -> Any:
        return op.step("ride", Service(), idempotency_key="r"), op.call("c", service, retry=AT_ONCE)

    reply = post("/plain/", key if keyed else None)
    assert (reply.status_code, code(reply)) == (503, "idempotency_operation_pending")
    assert reply["Retry-After"] == "1"
    assert json.loads(reply.content)["remedy"] == "retry_same_key"
    assert len(service.keys) == 3
    if keyed:
        assert (record().status, record().error) == (Status.RELEASED, "OperationPendingError")
        trace = step("c")
        assert (trace.status, trace.error, trace.attempt) == ("retrying", "DownError", 3)
        assert outcome(post("/plain/", key))
        assert step("c").attempt == 5


def test_deadline_ends_the_tries(key: str, post: Post) -> None:
    """One try, however many are allowed."""
    service = Service(*[DownError()] * 3)
    retry = Retry(attempts=9, deadline=timedelta())
    plays(lambda op: op.call("charge", service, retry=retry))
    assert code(post("/plain/", key)) == "idempotency_operation_pending"
    assert len(service.keys) == 1


@pytest.mark.parametrize("retry", [None, AT_ONCE], ids=["no-retry", "not-in-on"])
def test_other_error_is_the_view_s_own(retry: Retry | None, key: str, post: Post) -> None:
    """Raised at once, as it is; the view may catch it and go on."""
    service = Service(DeclinedError("no"))

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DeclinedError, match="no"):
            op.call("charge", service, retry=retry)
        return op.call("invoice", service)

    assert outcome(post("/plain/", key))
    assert len(service.keys) == 2
    assert steps() == {"charge": "retrying", "invoice": "completed"}
    assert step("charge").error == "DeclinedError"


@pytest.mark.parametrize("on", [Exception, BaseException])
def test_retry_of_everything_does_not_retry_what_is_ours(
    on: type[BaseException], key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's own exceptions are not retried: a lost claim is a 409, without a call."""
    service = Service()

    @plays
    def act(op: Any) -> Any:
        IdempotencyRecord.objects.update(token=uuid.uuid4())
        op._checkpoints._last_beat -= 40
        return op.call("charge", service, retry=Retry(on=on, base=timedelta()))

    reply = post("/plain/", key)
    assert (reply.status_code, code(reply)) == (409, "idempotency_in_progress")
    assert service.keys == []


def test_result_that_cannot_be_recorded_is_an_error_each_time(key: str, post: Post) -> None:
    """The call was made; it is made again with the same key, and the program is to be mended."""
    keys = []

    def call(*, idempotency_key: str) -> Any:
        keys.append(idempotency_key)
        return b"cake" if len(keys) < 3 else "cake"

    plays(lambda op: op.call("charge", call))
    for _ in range(2):
        assert post("/plain/", key).status_code == 500
        assert record().error == "TypeError"
    assert outcome(post("/plain/", key)) == "cake"
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"semantics": "exactly_once"}, "at_least_once or at_most_once"),
        ({"semantics": "at_most_once", "retry": AT_ONCE}, "has no retry"),
    ],
    ids=["semantics", "retry"],
)
def test_impossible_options_are_refused(
    options: dict[str, Any], words: str, key: str, post: Post
) -> None:
    """Before the call is made."""
    service = Service()

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(ValueError, match=words):
            op.call("charge", service, **options)

    assert post("/plain/", key).status_code == 201
    assert service.keys == []


def test_timeout_is_handed_on_in_seconds(key: str, post: Post) -> None:
    """And only where there is one."""
    given = []
    plays(
        lambda op: [
            op.call("a", lambda **kwargs: given.append(kwargs), timeout=timedelta(seconds=1.5)),
            op.call("b", lambda **kwargs: given.append(kwargs)),
        ]
    )
    assert post("/plain/", key).status_code == 201
    assert given[0].pop("timeout") == 1.5
    assert [set(each) for each in given] == [{"idempotency_key"}] * 2
