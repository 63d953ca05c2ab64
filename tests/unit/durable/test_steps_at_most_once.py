"""Calls that are made at most once: their beginning is recorded first, their end may be unknown."""

import json
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.exceptions import NotDoneError
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.storage.records import RowLockedError
from tests.conftest import Post
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DiedError,
    DownError,
    Service,
    code,
    die,
    fails_first,
    outcome,
    plays,
    record,
    step,
    steps,
)

pytestmark = ON_STAGE


class Mail(Service):
    """A service that knows no keys: each call is another letter."""

    def __init__(self, *errors: Any) -> None:
        super().__init__(*errors)
        self.sent: list[Any] = []
        self.asked: list[str] = []
        #: What it says when it is asked, if not the truth.
        self.trouble: list[BaseException] = []

    def __call__(self, *args: Any, idempotency_key: str, **kwargs: Any) -> Any:
        done = super().__call__(*args, idempotency_key=idempotency_key, **kwargs)
        self.sent.append(args)
        return done

    def find(self, *args: Any, idempotency_key: str, **kwargs: Any) -> Any:
        """The letter, or NotDoneError."""
        self.asked.append(idempotency_key)
        if self.trouble:
            raise self.trouble.pop()
        if idempotency_key not in self.ledger:
            raise NotDoneError
        return {**self.ledger[idempotency_key], "found": [list(args), kwargs]}


def sending(mail: Mail, *, reconcile: bool = True, **options: Any) -> None:
    """The act: send one letter."""

    @plays
    def act(op: Any) -> Any:
        find = mail.find if reconcile else None
        return op.call(
            "mail", mail, "Ada", subject="x", semantics="at_most_once", reconcile=find, **options
        )


def attempt(post: Post, key: str, *, dies: bool) -> Any:
    """One request; its worker may die in it."""
    if not dies:
        return post("/plain/", key)
    with pytest.raises(DiedError):
        post("/plain/", key)
    return die()


def test_beginning_is_recorded_before_the_call(key: str, post: Post) -> None:
    """It is committed, so a later attempt sees it."""
    seen = []
    plays(
        lambda op: op.call("mail", lambda **kwargs: seen.append(steps()), semantics="at_most_once")
    )
    assert post("/plain/", key).status_code == 201
    assert seen == [{"mail": "started"}]
    assert steps() == {"mail": "completed"}
    assert step("mail").attempt == 1


@pytest.mark.parametrize("dies", [True, False], ids=["died", "raised"])
@pytest.mark.parametrize("arrived", [True, False], ids=["sent", "not-sent"])
def test_call_of_unknown_outcome_is_never_made_again(
    arrived: bool, dies: bool, key: str, post: Post
) -> None:
    """409 in every attempt, until ``reconcile`` says what came of it."""
    error = DiedError() if dies else DownError()
    mail = Mail((error,) if arrived else error)
    sending(mail, reconcile=False)
    attempt(post, key, dies=dies)
    assert step("mail").status == ("started" if dies else "unknown")
    for _ in range(3):
        reply = post("/plain/", key)
        assert (reply.status_code, code(reply)) == (409, "idempotency_outcome_unknown")
        assert json.loads(reply.content)["remedy"] == "retry_same_key"
        assert step("mail").status == "unknown"
        assert step("mail").attempt == 1
    assert (record().status, record().error) == (Status.RELEASED, "OutcomeUnknownError")
    assert len(mail.keys) == 1


@pytest.mark.parametrize("dies", [True, False], ids=["died", "raised"])
def test_call_that_was_done_is_found(dies: bool, key: str, post: Post) -> None:
    """With the arguments of the call and its key; what was found is the result from then on."""
    mail = Mail((DiedError() if dies else DownError(),))
    sending(mail)
    if dies:
        attempt(post, key, dies=True)
    found = outcome(post("/plain/", key))
    assert found["found"] == [["Ada"], {"subject": "x"}]
    assert mail.asked == mail.keys
    assert len(mail.ledger) == 1
    assert steps() == {"mail": "completed"}
    assert step("mail").error == ""


def test_what_was_found_is_not_asked_for_again(key: str, post: Post) -> None:
    """The attempt failed after it."""
    mail = Mail((DownError(),))
    find = mail.find
    plays(fails_first(lambda op: op.call("mail", mail, semantics="at_most_once", reconcile=find)))
    assert post("/plain/", key).status_code == 500
    assert outcome(post("/plain/", key))["found"]
    assert len(mail.asked) == len(mail.keys) == 1


def test_call_that_died_and_was_not_done_is_made_now(key: str, post: Post) -> None:
    """``reconcile`` says that it was not done."""
    mail = Mail(DiedError())
    sending(mail)
    attempt(post, key, dies=True)
    assert outcome(post("/plain/", key))
    assert len(mail.sent) == 1
    assert len(mail.asked) == 1
    assert len(mail.keys) == 2
    assert step("mail").attempt == 2


def test_call_that_raised_and_was_not_done_is_pending(key: str, post: Post) -> None:
    """It may arrive late: the next attempt asks again before it makes it."""
    mail = Mail(DownError())
    sending(mail)
    reply = post("/plain/", key)
    assert (reply.status_code, code(reply)) == (503, "idempotency_operation_pending")
    assert step("mail").status == "unknown"
    assert len(mail.keys) == 1
    assert outcome(post("/plain/", key))
    assert len(mail.asked) == 2
    assert len(mail.sent) == 1


def test_letter_that_arrives_late_is_found_by_the_next_attempt(key: str, post: Post) -> None:
    """And is the only one."""
    mail = Mail(DownError())
    sending(mail)
    assert post("/plain/", key).status_code == 503
    mail.ledger[mail.keys[0]] = {"id": "late"}
    assert outcome(post("/plain/", key))["id"] == "late"
    assert mail.sent == []


@pytest.mark.parametrize("trouble", [DownError(), ValueError(), DeclinedError()], ids=repr)
def test_reconcile_that_cannot_tell_leaves_it_unknown(
    trouble: Exception, key: str, post: Post
) -> None:
    """Another error than NotDoneError says nothing; the next attempt asks again."""
    mail = Mail((DiedError(),))
    sending(mail)
    attempt(post, key, dies=True)
    mail.trouble.append(trouble)
    assert code(post("/plain/", key)) == "idempotency_outcome_unknown"
    assert steps() == {"mail": "unknown"}
    assert outcome(post("/plain/", key))
    assert len(mail.keys) == 1


def test_worker_that_dies_while_asking_leaves_it_unknown(key: str, post: Post) -> None:
    """Nothing was made."""
    mail = Mail((DiedError(),))
    sending(mail)
    attempt(post, key, dies=True)
    mail.trouble.append(DiedError())
    attempt(post, key, dies=True)
    assert steps() == {"mail": "unknown"}
    assert outcome(post("/plain/", key))["found"]
    assert len(mail.keys) == 1


def test_fatal_error_is_a_known_outcome(key: str, post: Post) -> None:
    """A refusal leaves no doubt."""
    mail = Mail(DeclinedError())
    sending(mail, fatal=(DeclinedError,))
    for _ in range(2):
        assert code(post("/plain/", key)) == "idempotency_operation_failed"
    assert (len(mail.keys), mail.asked) == (1, [])


@pytest.mark.parametrize("result", [None, False, 0, "", []], ids=repr)
def test_result_that_is_nothing_is_a_result(result: Any, key: str, post: Post) -> None:
    """What reconcile returns counts, whatever it is."""
    mail = Mail((DiedError(),))

    @plays
    def act(op: Any) -> Any:
        return op.call("mail", mail, semantics="at_most_once", reconcile=lambda **kwargs: result)

    attempt(post, key, dies=True)
    assert outcome(post("/plain/", key)) == result
    assert steps() == {"mail": "completed"}


def test_without_a_key_the_same_key_is_asked_for(post: Post) -> None:
    """There is no later attempt: what can be found is found in this one."""
    mail = Mail((DownError(),))
    sending(mail)
    assert outcome(post("/plain/"))["found"]
    assert mail.asked == mail.keys
    mail = Mail(DownError())
    sending(mail)
    assert code(post("/plain/")) == "idempotency_operation_pending"
    sending(Mail(DownError()), reconcile=False)
    assert code(post("/plain/")) == "idempotency_outcome_unknown"


@pytest.mark.parametrize("result", [b"letter", object()], ids=["bytes", "object"])
def test_result_that_cannot_be_recorded_makes_the_outcome_unknown(
    result: Any, key: str, post: Post
) -> None:
    """The call was made, so it is not made again."""
    calls = []

    def call(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return result

    plays(lambda op: op.call("mail", call, semantics="at_most_once"))
    assert post("/plain/", key).status_code == 500
    assert code(post("/plain/", key)) == "idempotency_outcome_unknown"
    assert len(calls) == 1


@pytest.mark.parametrize("timeout", [None, timedelta(minutes=10)], ids=["no-time-out", "time-out"])
def test_call_that_was_not_made_is_not_in_doubt(
    timeout: timedelta | None, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its beginning could not be recorded: the next attempt makes it without asking."""
    mail = Mail()
    sending(mail, timeout=timeout)
    with monkeypatch.context() as patch:
        patch.setattr(
            "django_idempotency.storage.steps.Journal.beat",
            lambda *args, **kwargs: (_ for _ in ()).throw(RowLockedError),
        )
        assert post("/plain/", key).status_code == 409
    assert mail.keys == []
    assert steps() == {}
    assert outcome(post("/plain/", key))
    assert (len(mail.sent), mail.asked) == (1, [])


def test_owner_that_was_taken_over_does_not_make_the_call(key: str, post: Post) -> None:
    """It cannot record the beginning of the call."""
    mail = Mail()

    @plays
    def act(op: Any) -> Any:
        IdempotencyRecord.objects.update(token=op.record_id)
        return op.call("mail", mail, semantics="at_most_once")

    assert code(post("/plain/", key)) == "idempotency_in_progress"
    assert mail.keys == []


def test_changed_arguments_of_a_call_in_doubt_are_an_error(key: str, post: Post) -> None:
    """What was begun with others cannot be found with these."""
    mail = Mail((DiedError(),))
    sending(mail)
    attempt(post, key, dies=True)

    @plays
    def act(op: Any) -> Any:
        return op.call("mail", mail, "Bob", semantics="at_most_once", reconcile=mail.find)

    assert post("/plain/", key).status_code == 500
    assert record().error == "StepDriftError"
    assert mail.asked == []
