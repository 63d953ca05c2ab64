"""Operations that are finished without their clients."""

import logging
import threading
import uuid
from contextlib import nullcontext
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.base import BaseHandler
from django.core.signals import request_finished, request_started
from django.db import connection, connections, transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import get_urlconf, set_urlconf
from django.utils import timezone, translation
from pytest_django import Settings

from django_idempotency.durable import completer
from django_idempotency.durable.completer import Completed, Completion, complete, complete_due
from django_idempotency.exceptions import OperationFailedError
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    UtcNow,
)
from django_idempotency.operation import current_operation
from django_idempotency.retry import Retry
from django_idempotency.storage.records import RowLockedError, Store
from django_idempotency.storage.steps import Journal
from tests.app import effects
from tests.app.models import Order
from tests.conftest import Post
from tests.support import stage
from tests.support.stage import (
    ON_STAGE,
    DeclinedError,
    DownError,
    Service,
    bake,
    code,
    completed,
    die,
    due,
    envelope,
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

FATAL = (DeclinedError,)
# How far the database's clock may be from this process's.
SLACK = timedelta(seconds=0.5)


class Ride:
    """A ride, and a charge by a service that is down at first."""

    def __init__(self, *errors: Any) -> None:
        self.charges = Service(*errors)
        self.requests: list[HttpRequest] = []

    def __call__(self, op: Any) -> Any:
        self.requests.append(op.request)
        ride = op.step("ride", bake)
        return op.call("charge", self.charges, ride["pk"], fatal=FATAL)


def interrupted(key: str, post: Post, *errors: Any, door: str = "/kept/") -> Ride:
    """An operation whose client got a 500, or as many as there are errors to come."""
    ride = plays(Ride(*(errors or [DownError()])))
    assert post(door, key).status_code >= 500
    return ride


@pytest.mark.parametrize("dies", [False, True], ids=["released", "stale"])
@pytest.mark.parametrize("door", ["/kept/", "/kept/törtchen/€/"])
def test_unfinished_operation_is_finished_behind_its_last_step(
    door: str, dies: bool, key: str, post: Post
) -> None:
    """The client finds the reply, whenever it comes back."""
    ride = interrupted(key, post, door=door)
    if dies:
        die()
    assert completed() == ["completed"]
    assert Order.objects.count() == runs("bake lemon") == 1
    assert ride.charges.keys == ride.charges.keys[:1] * 2
    assert not IdempotencyEnvelope.objects.exists()
    assert record().status == Status.COMPLETED
    reply = post(door, key)
    assert reply["Idempotent-Replayed"] == "true"
    assert outcome(reply)["args"] == [Order.objects.get().pk]
    assert len(ride.requests) == 2


def test_atomic_view_is_finished(key: str, post: Post) -> None:
    """It begins anew, having left nothing."""
    plays(fails_first(lambda op: op.step("ride", bake)))
    assert post("/kept/whole/", key).status_code == 500
    assert completed() == ["completed"]
    assert outcome(post("/kept/whole/", key))
    assert Order.objects.count() == 1


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_operation_of_another_database_is_finished_there(key: str, post: Post) -> None:
    """A completer works on the one it is given."""
    plays(fails_first(lambda op: op.step("ride", bake)))
    assert post("/kept/elsewhere/", key).status_code == 500
    envelopes = IdempotencyEnvelope.objects.using("other")
    assert envelopes.update(due_at=stage.PAST) == 1
    assert list(complete_due()) == list(complete_due("default")) == []
    assert [done.completion for done in complete_due("other")] == ["completed"]
    assert not envelopes.exists()
    assert runs("bake lemon") == 1
    assert outcome(post("/kept/elsewhere/", key))


def test_coroutine_is_finished(key: str, post: Post) -> None:
    """The completer itself is no coroutine."""
    service = Service(DownError())

    async def ask(**kwargs: Any) -> Any:
        return service(**kwargs)

    @plays
    async def act(op: Any) -> Any:
        await op.astep("ride", bake)
        return await op.acall("charge", ask)

    assert post("/kept/coroutine/", key).status_code == 500
    assert completed() == ["completed"]
    assert Order.objects.count() == 1
    assert outcome(post("/kept/coroutine/", key))
    assert len(service.keys) == 2


def test_operation_that_runs_is_left_alone(key: str, post: Post) -> None:
    """Its lease is trusted: its view is not begun a second time, and that was no try."""
    seen = []

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake)
        seen.append(completed())
        assert envelope().tries == 0
        return op.step("pay", bake, "pay")

    assert outcome(post("/kept/", key))
    assert seen == [["busy"]]
    assert Order.objects.count() == 2
    assert effects.count() == 2


def test_operation_whose_completer_died_is_taken_up_again(key: str, post: Post) -> None:
    """After its lease; it had begun, and resumes behind what it had done."""
    ride = interrupted(key, post, DownError(), stage.DiedError())
    due()
    with pytest.raises(stage.DiedError):
        list(complete_due())
    die()
    assert completed() == ["completed"]
    assert Order.objects.count() == 1
    assert len(ride.charges.keys) == 3


def test_only_what_is_due_is_taken_up_the_longest_due_first(key: str, post: Post) -> None:
    """And no more than that."""
    plays(Ride(*[DownError()] * 4))
    for number in range(4):
        assert post("/kept/", f"{key}{number}").status_code == 500
    assert list(complete_due()) == []
    rows = {row.record.key[-1]: row for row in IdempotencyEnvelope.objects.select_related("record")}
    for name, age in (("2", 3), ("0", 2), ("3", 1)):
        pk = rows[name].pk
        IdempotencyEnvelope.objects.filter(pk=pk).update(due_at=UtcNow() - timedelta(seconds=age))
    first = [done.record_id for done in complete_due(limit=2)]
    assert first == [rows["2"].pk, rows["0"].pk]
    assert [done.record_id for done in complete_due()] == [rows["3"].pk]
    assert list(complete_due()) == []
    assert rows["1"].tries == 0


def test_operation_becomes_due_after_the_lease_of_its_first_attempt(key: str, post: Post) -> None:
    """By the database's clock."""
    began = timezone.now()
    interrupted(key, post)
    due_at = envelope().due_at
    assert due_at
    assert began - SLACK <= due_at - timedelta(minutes=1) <= timezone.now() + SLACK


def test_what_fails_again_is_tried_after_growing_pauses(
    key: str, post: Post, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """1, 2, 4 seconds and so on, an hour at most; then it is left to a person."""
    settings.IDEMPOTENCY_COMPLETER_ATTEMPTS = 15
    interrupted(key, post, *[DownError()] * 99)
    for number in range(1, 15):
        began, pause = timezone.now(), timedelta(seconds=min(2 ** (number - 1), 3600))
        assert completed() == ["pending"]
        row = envelope()
        assert row.due_at
        assert (row.tries, row.error) == (number, "DownError")
        assert began - SLACK <= row.due_at - pause <= timezone.now() + SLACK
    with caplog.at_level(logging.ERROR, "django_idempotency.completer"):
        assert completed() == ["given_up"]
    assert "left to a person: DownError" in caplog.text
    row = envelope()
    assert (row.due_at, row.tries, row.error) == (None, 15, "DownError")
    assert list(complete_due()) == []


def test_what_was_given_up_may_be_completed_by_hand(
    key: str, post: Post, settings: Settings
) -> None:
    """Or by its client."""
    settings.IDEMPOTENCY_COMPLETER_ATTEMPTS = 1
    for finish in (lambda: complete("default", record().pk), lambda: post("/kept/", key)):
        ride = interrupted(key, post, DownError(), DownError())
        assert completed() == ["given_up"]
        assert ride.charges.errors == []
        finish()
        assert record().status == Status.COMPLETED
        assert not IdempotencyEnvelope.objects.exists()
        IdempotencyStep.objects.all().delete()
        IdempotencyRecord.objects.all().delete()


def test_taking_up_by_hand_needs_no_time_to_have_come(key: str, post: Post) -> None:
    """It fails again, and is due after its pause; no try is the last."""
    interrupted(key, post, *[DownError()] * 2)
    done = complete("default", record().pk)
    assert (done.completion, done.error) == ("pending", "DownError")
    assert envelope().tries == 1
    assert complete("default", record().pk).completion == "completed"
    assert complete("default", record().pk) == Completed(record().pk, Completion.GONE)
    assert complete("default", uuid.uuid4()).completion == "gone"


def test_last_try_that_meets_another_one_is_no_try(
    key: str, post: Post, settings: Settings
) -> None:
    """Another request runs it: nothing is given up."""
    settings.IDEMPOTENCY_COMPLETER_ATTEMPTS = 1
    interrupted(key, post)
    minute = UtcNow() + timedelta(minutes=1)
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS, lease_expires_at=minute)
    assert completed() == ["busy"]
    assert (envelope().tries, envelope().due_at is None) == (0, False)
    die()
    assert completed() == ["completed"]


def test_two_completers_take_up_an_operation_once(key: str, post: Post) -> None:
    """One of them read the row before the other took it up."""
    ride = interrupted(key, post)
    row = envelope()
    IdempotencyEnvelope.objects.update(tries=1)
    assert completer._complete("default", row, give_up=True).completion == "busy"
    assert len(ride.requests) == 1
    assert completed() == ["completed"]


def client_of(user: User, **options: Any) -> Client:
    """The client of a user who is logged in."""
    client = Client(raise_request_exception=False, **options)
    client.force_login(user)
    return client


@pytest.fixture
def ada() -> User:
    """A member."""
    return User.objects.create_user("ada", password="secret")


def interrupted_member(ada: User, key: str) -> Ride:
    """An operation of a member, through CSRF protection and login_required."""
    client = client_of(ada, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = token = "a" * 32
    headers = {"Idempotency-Key": key, "X-CSRFToken": token}
    ride = plays(Ride(DownError()))
    form = ("cake=lemon&note=%C3%BC", "application/x-www-form-urlencoded")
    assert client.post("/member/", *form, headers=headers).status_code == 500
    return ride


def test_member_is_logged_in_again(ada: User, key: str) -> None:
    """No session, no cookie, no token against forgery; the form is there."""
    ride = interrupted_member(ada, key)
    assert envelope().user_id == str(ada.pk)
    User.objects.filter(pk=ada.pk).update(last_name="Lovelace")
    assert completed() == ["completed"]
    first, second = ride.requests
    assert second.user == first.user == ada
    assert second.user.last_name == "Lovelace"
    assert second.POST.dict() == {"cake": "lemon", "note": "ü"}
    assert second.COOKIES == {}
    assert not second.session.keys()
    assert record().scope == f"user:{ada.pk}"


@pytest.mark.parametrize("gone", ["inactive", "deleted", "replaced"])
def test_member_who_may_not_log_in_is_nobody(gone: str, ada: User, key: str) -> None:
    """Nothing runs; a person has to look at it. An inactive one may be let in again.

    Nothing runs either for a newcomer who was given the primary key of a deleted member.
    """
    ride = interrupted_member(ada, key)
    if gone == "deleted":
        ada.delete()
    elif gone == "replaced":
        pk = ada.pk
        ada.delete()
        User.objects.create(pk=pk, username="ada")
    else:
        User.objects.update(is_active=False)
    assert completed() == ["given_up"]
    assert envelope().due_at is None
    assert "not active" in envelope().error
    assert len(ride.requests) == 1
    if gone == "inactive":
        User.objects.update(is_active=True)
        assert completed() == ["completed"]


def test_primary_key_that_is_none_any_more_is_nobody(ada: User, key: str) -> None:
    """The project has another user model by now."""
    interrupted_member(ada, key)
    IdempotencyEnvelope.objects.update(user_id="ada@example.com")
    assert completed() == ["given_up"]


@pytest.mark.drf
def test_caller_with_a_token_is_authenticated_again(ada: User, key: str) -> None:
    """The token is not stored, and is not needed."""
    from rest_framework.authtoken.models import Token

    token = Token.objects.create(user=ada)
    ride = plays(Ride(DownError()))
    client = Client(raise_request_exception=False)
    headers = {"Idempotency-Key": key, "Authorization": f"Token {token.key}"}
    photo: Any = SimpleUploadedFile("a.png", b"\x00\xff", "image/png")
    form = {"cake": "lemon", "photo": photo}
    assert client.post("/api/", form, headers=headers).status_code == 500
    assert token.key.encode() not in bytes(envelope().request)
    token.delete()
    assert completed() == ["completed"]
    assert ride.requests[1].user == ada
    photo = ride.requests[1].FILES["photo"]
    assert photo.read() == b"\x00\xff"


@pytest.mark.drf
def test_caller_whose_permission_was_taken_away_is_refused(ada: User, key: str) -> None:
    """Nothing runs, the reason is kept; with the permission it is finished."""
    from rest_framework.authtoken.models import Token

    kind = ContentType.objects.get_for_model(Order)
    may_add, _ = Permission.objects.get_or_create(codename="add_order", content_type=kind)
    ada.user_permissions.add(may_add)
    ride = plays(Ride(DownError()))
    token = Token.objects.create(user=ada).key
    headers = {"Idempotency-Key": key, "Authorization": f"Token {token}"}
    client = Client(raise_request_exception=False)
    body: Any = {"data": {"cake": "lemon"}, "content_type": "application/json"}
    assert client.post("/api/clerks/", headers=headers, **body).status_code == 500
    ada.user_permissions.clear()
    due()
    (done,) = complete_due()
    assert (done.completion, done.error) == ("pending", "HTTP 403")
    assert envelope().error == "HTTP 403"
    assert len(ride.requests) == 1
    ada.user_permissions.add(may_add)
    assert completed() == ["completed"]
    assert len(ride.requests) == 2


def test_url_that_is_gone_is_pending(key: str, post: Post, settings: Settings) -> None:
    """The reason is kept; a deployment may bring it back."""
    interrupted(key, post)
    settings.ROOT_URLCONF = "tests.app.urls"
    due()
    (done,) = complete_due()
    assert (done.completion, done.error) == ("pending", "HTTP 404")
    settings.ROOT_URLCONF = "tests.support.stage"
    assert completed() == ["completed"]


def test_operation_that_failed_for_good_is_final(key: str, post: Post) -> None:
    """It is asked for once, and comes to the same end; nothing is left to try."""
    refunds = Service()

    @plays
    def act(op: Any) -> Any:
        op.call("charge", Service(), undo=refunds)
        op.call("ship", declines, fatal=FATAL)

    declines = Service(DownError(), DeclinedError())
    assert post("/kept/", key).status_code == 500
    assert refunds.keys == []
    assert completed() == ["failed"]
    assert len(refunds.keys) == 1
    assert not IdempotencyEnvelope.objects.exists()
    assert record().error == "OperationFailedError"
    assert code(post("/kept/", key)) == "idempotency_operation_failed"
    assert len(declines.keys) == 2


def test_operation_that_failed_before_its_client_left_is_final(key: str, post: Post) -> None:
    """Its client got the refusal, and its request is thrown away."""
    plays(lambda op: op.call("ship", Service(DeclinedError()), fatal=FATAL))
    assert code(post("/kept/", key)) == "idempotency_operation_failed"
    if IdempotencyEnvelope.objects.exists():
        assert completed() == ["failed"]
    assert not IdempotencyEnvelope.objects.exists()


def test_failure_that_the_view_answers_is_an_outcome(key: str, post: Post) -> None:
    """The client finds the 402."""
    charges = Service(DownError(), DeclinedError())

    @plays
    def act(op: Any) -> Any:
        try:
            return op.call("charge", charges, fatal=FATAL)
        except OperationFailedError as error:
            return JsonResponse({"error": error.error}, status=402)

    assert post("/kept/", key).status_code == 500
    assert completed() == ["completed"]
    reply = post("/kept/", key)
    assert (reply.status_code, reply.json()) == (402, {"error": "DeclinedError"})


@pytest.mark.parametrize("raised", [False, True], ids=["returned", "raised"])
def test_answer_without_an_outcome_is_the_client_s_to_mend(
    raised: bool, key: str, post: Post
) -> None:
    """A completer cannot correct a bad request."""
    fails = fails_first()

    @plays
    def act(op: Any) -> Any:
        fails()
        if raised:
            raise Http404
        return HttpResponse("bad", status=400)

    assert post("/kept/", key).status_code == 500
    due()
    (done,) = complete_due()
    assert done.completion == "refused"
    assert done.error in ("HTTP 400", "Http404")
    assert record().status == Status.RELEASED
    assert not IdempotencyEnvelope.objects.exists()


@pytest.mark.parametrize("status", [500, 503])
def test_answer_above_500_is_tried_again(status: int, key: str, post: Post) -> None:
    """As an exception is."""
    statuses = [201, status, status]
    plays(lambda op: HttpResponse(status=statuses.pop()))
    assert post("/kept/", key).status_code == status
    assert completed() == ["pending"]
    assert envelope().error == f"HTTP {status}"
    assert completed() == ["completed"]


def test_attempts_that_are_used_up_are_final(key: str, post: Post, settings: Settings) -> None:
    """It is not run, and not tried again and again; the reason is kept."""
    settings.IDEMPOTENCY_MAX_ATTEMPTS = 1
    ride = interrupted(key, post)
    due()
    (done,) = complete_due()
    assert (done.completion, done.error) == ("given_up", "AttemptsExhaustedError")
    assert list(complete_due()) == []
    assert len(ride.requests) == 1


def test_pending_operation_goes_on_with_its_tries(key: str, post: Post) -> None:
    """503 for the client, tries for the completer."""
    service = Service(*[DownError()] * 5)
    plays(lambda op: op.call("c", service, retry=Retry(attempts=2, base=timedelta())))
    assert code(post("/kept/", key)) == "idempotency_operation_pending"
    assert completed() == ["pending"]
    assert envelope().error == "OperationPendingError"
    assert completed() == ["completed"]
    assert len(service.keys) == 6
    assert step("c").attempt == 6


def test_unknown_outcome_is_asked_for_until_it_is_known(key: str, post: Post) -> None:
    """The call is not made again."""
    mail = Service((DownError(),))
    find = fails_first(mail.find, DownError(), DownError())
    plays(lambda op: op.call("mail", mail, semantics="at_most_once", reconcile=find))
    assert code(post("/kept/", key)) == "idempotency_outcome_unknown"
    assert completed() == ["pending"]
    assert envelope().error == "OutcomeUnknownError"
    assert completed() == ["completed"]
    assert len(mail.keys) == 1


@pytest.mark.parametrize("dies", [False, True], ids=["released", "stale"])
def test_unfinished_operation_does_not_expire(dies: bool, key: str, post: Post) -> None:
    """No completer ran for days: it still resumes after its last step."""
    interrupted(key, post)
    expire()
    if dies:
        die()
    assert completed() == ["completed"]
    assert Order.objects.count() == runs("bake lemon") == 1
    assert outcome(post("/kept/", key))


MEANWHILE: dict[str, Any] = {
    # Its envelope is an orphan then, which no clean-up of ours leaves.
    "deleted": lambda: IdempotencyRecord.objects.all()._raw_delete("default"),
    "completed and expired": lambda: IdempotencyRecord.objects.update(
        status=Status.COMPLETED,
        error="",
        response_status=201,
        response_headers=[],
        response_body=b"done",
        completed_at=UtcNow(),
        expires_at=stage.PAST,
    ),
    "erased": lambda: IdempotencyRecord.objects.update(fingerprint=b"", scope="", key=""),
}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
@pytest.mark.parametrize("late", [False, True], ids=["before", "between"])
def test_operation_that_is_over_is_never_begun_anew(
    late: bool, meanwhile: Any, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that happens after the completer looked, and before it claims."""
    ride = interrupted(key, post)
    respond = completer._respond

    def slowly(*args: Any) -> Any:
        meanwhile()
        return respond(*args)

    if late:
        monkeypatch.setattr(completer, "_respond", slowly)
    else:
        meanwhile()
    assert completed()[0] in ("gone", "completed")
    assert len(ride.requests) == 1
    assert runs("bake lemon") == 1
    assert not IdempotencyEnvelope.objects.exists()
    assert completed_again() == []


def completed_again() -> list[Any]:
    """What is left to do."""
    return list(complete_due())


def test_client_that_finishes_it_first_has_the_last_word(
    key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the completer's look and its claim: it gets the replay."""
    ride = interrupted(key, post)
    respond = completer._respond

    def slowly(*args: Any) -> Any:
        assert outcome(post("/kept/", key))
        return respond(*args)

    monkeypatch.setattr(completer, "_respond", slowly)
    assert completed() == ["completed"]
    assert len(ride.requests) == 2
    assert Order.objects.count() == 1


@pytest.mark.parametrize("error", [RowLockedError, "lost"], ids=["locked", "lost"])
def test_attempt_that_cannot_hold_its_record_is_no_refusal(
    error: Any, key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 in the middle of a half-done operation: its request stays, and that was no try."""
    fails = fails_first()

    @plays
    def act(op: Any) -> Any:
        op.step("ride", bake)
        fails()
        return op.step("pay", bake, "pay")

    assert post("/kept/", key).status_code == 500
    with monkeypatch.context() as patch:
        if error == "lost":
            patch.setattr(Journal, "beat", lambda *args, **kwargs: False)
        else:
            patch.setattr(Journal, "beat", mock.Mock(side_effect=error))
        assert completed() == ["busy"]
    assert (envelope().tries, envelope().due_at is None) == (0, False)
    assert completed() == ["completed"]
    assert runs("bake lemon") == runs("bake pay") == 1


def test_attempt_that_was_fenced_off_leaves_the_request_to_the_other(key: str, post: Post) -> None:
    """The faster attempt has failed meanwhile: the operation is not finished."""
    interrupted(key, post)

    @plays
    def act(op: Any) -> Any:
        IdempotencyRecord.objects.update(
            token=uuid.uuid4(), status=Status.RELEASED, error="OperationPendingError"
        )
        return op.step("late", bake, "late")

    assert completed()[0] in ("busy", "pending")
    assert envelope().due_at
    assert runs("bake late") == 0


def test_completer_inside_the_view_of_its_operation_runs_nothing(key: str, post: Post) -> None:
    """A task queue that runs its tasks at once."""
    seen = []

    @plays
    def act(op: Any) -> Any:
        effects.happened("act")
        seen.append(complete("default", op.record_id).completion)
        current: Any = current_operation()
        assert current is op
        return op.step("ride", bake)

    assert outcome(post("/kept/", key))
    assert (runs("act"), seen) == (1, ["busy"])


def test_request_that_cannot_be_read_is_left_to_a_person(
    key: str, post: Post, settings: Settings
) -> None:
    """With the right key it is finished."""
    settings.IDEMPOTENCY_BODY_CODEC = "fernet"
    right = [Fernet.generate_key()]
    settings.IDEMPOTENCY_FERNET_KEYS = right
    ride = interrupted(key, post)
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    assert completed() == ["given_up"]
    assert "fernet" in envelope().error
    assert len(ride.requests) == 1
    settings.IDEMPOTENCY_FERNET_KEYS = right
    assert completed() == ["completed"]


def test_step_that_cannot_be_read_is_unavailable(key: str, post: Post, settings: Settings) -> None:
    """503, and nothing runs; with the right key it goes on."""
    settings.IDEMPOTENCY_BODY_CODEC = "fernet"
    right = [Fernet.generate_key()]
    settings.IDEMPOTENCY_FERNET_KEYS = right
    ride = interrupted(key, post)
    row = envelope()
    settings.IDEMPOTENCY_FERNET_KEYS = [Fernet.generate_key()]
    reply = post("/kept/", key)
    assert (reply.status_code, code(reply)) == (503, "idempotency_unavailable")
    assert steps() == {"ride": "completed", "charge": "retrying"}
    assert bytes(envelope().request) == bytes(row.request)
    assert len(ride.charges.keys) == 1
    settings.IDEMPOTENCY_FERNET_KEYS = right
    assert completed() == ["completed"]
    assert Order.objects.count() == 1


def adapted(request: HttpRequest, record: IdempotencyRecord) -> HttpRequest:
    """What a project adds to a request that is made again."""
    request.META["HTTP_X_API_KEY"] = f"key of {record.scope}"
    return request


def test_project_may_help_the_request_along(key: str, post: Post, settings: Settings) -> None:
    """What authenticates it is not stored."""
    settings.IDEMPOTENCY_COMPLETER_REQUEST = f"{__name__}.adapted"
    ride = interrupted(key, post)
    assert completed() == ["completed"]
    assert ride.requests[1].headers["X-Api-Key"] == "key of anonymous"


def refusing(request: HttpRequest, record: IdempotencyRecord) -> HttpRequest:
    """A project's hook that knows some callers only."""
    if record.key.endswith("0"):
        raise LookupError
    return request


def _spoil(record: uuid.UUID) -> None:
    IdempotencyEnvelope.objects.filter(pk=record).update(request=b"{}\ncake")


def _garble(record: uuid.UUID) -> None:
    IdempotencyEnvelope.objects.filter(pk=record).update(request=b"\x00")


SPOILERS: dict[str, Any] = {"hook": None, "empty": _spoil, "no JSON": _garble}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS)
def test_operation_that_cannot_be_made_again_stops_no_other(
    spoil: Any, key: str, post: Post, settings: Settings
) -> None:
    """It is pending; the later ones are finished."""
    plays(Ride(*[DownError()] * 3))
    for number in range(3):
        assert post("/kept/", f"{key}{number}").status_code == 500
    first = IdempotencyRecord.objects.get(key=f"{key}0").pk
    if spoil:
        spoil(first)
    else:
        settings.IDEMPOTENCY_COMPLETER_REQUEST = f"{__name__}.refusing"
    due()
    done = {each.record_id: each.completion for each in complete_due()}
    assert done.pop(first) in ("pending", "given_up")
    assert list(done.values()) == ["completed"] * 2
    assert envelope().error
    assert IdempotencyRecord.objects.get(pk=first).status == Status.RELEASED


def test_view_behind_the_middleware_s_door_is_finished(
    key: str, post: Post, settings: Settings
) -> None:
    """It has no door of its own."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY_ATOMIC = False
    settings.IDEMPOTENCY_KEEP_REQUEST = True
    interrupted(key, post, door="/unprotected/")
    assert completed() == ["completed"]
    assert Order.objects.count() == 1
    assert post("/unprotected/", key)["Idempotent-Replayed"] == "true"


def test_project_that_redirects_to_tls_finds_it_secure(
    key: str, post: Post, settings: Settings
) -> None:
    """The proxy's word is stored; the redirect would never reach the view."""
    settings.MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", *settings.MIDDLEWARE]
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert post("/kept/", key).status_code == 301
    ride = plays(Ride(DownError()))
    assert post("/kept/", key, **{"X-Forwarded-Proto": "https"}).status_code == 500
    assert completed() == ["completed"]
    assert ride.requests[1].is_secure()


def test_tenant_of_a_header_is_found_again(key: str, post: Post, settings: Settings) -> None:
    """By its host, or by what the setting keeps."""
    settings.IDEMPOTENCY_REQUEST_HEADERS = ["X-Tenant"]
    ride = plays(Ride(DownError()))
    sent = {"Host": "a.example", "X-Tenant": "a"}
    assert post("/kept/", key, **sent).status_code == 500
    assert completed() == ["completed"]
    assert ride.requests[1].get_host() == "a.example"
    assert ride.requests[1].headers["X-Tenant"] == "a"


def test_middleware_that_changes_counts_at_once(key: str, post: Post, settings: Settings) -> None:
    """As settings do everywhere else."""
    interrupted(key, post, DownError(), DownError())
    assert completed() == ["pending"]
    settings.MIDDLEWARE = [
        "tests.unit.durable.test_completer.ClosedMiddleware",
        *settings.MIDDLEWARE,
    ]
    due()
    (done,) = complete_due()
    assert (done.completion, done.error) == ("pending", "HTTP 503")


class ClosedMiddleware:
    """The shop is closed."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=503)


def test_completer_leaves_no_transaction_and_no_operation_behind(key: str, post: Post) -> None:
    """It takes up one after the other in the same thread."""
    interrupted(key, post)
    assert completed() == ["completed"]
    assert current_operation() is None
    assert not transaction.get_connection().in_atomic_block


def test_completion_whose_save_fails_is_tried_again(
    key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are there; only the answer is not."""
    interrupted(key, post)
    with monkeypatch.context() as patch:
        patch.setattr(Store, "complete", mock.Mock(side_effect=RuntimeError))
        assert completed() == ["pending"]
    assert envelope().error == "RuntimeError"
    assert completed() == ["completed"]
    assert Order.objects.count() == 1


class SettingMiddleware:
    """Sets what a request may set for its thread, and leaves it so, as Django's own does."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")
        response: HttpResponse = self.get_response(request)
        return response


def test_completion_leaves_language_time_zone_and_urls_as_they_were(
    key: str, post: Post, settings: Settings
) -> None:
    """A task queue, or a view, that completes an operation goes on with its own."""
    interrupted(key, post)
    settings.MIDDLEWARE = [
        "tests.unit.durable.test_completer.SettingMiddleware",
        *settings.MIDDLEWARE,
    ]
    set_urlconf("tests.app.urls")
    try:
        with translation.override("de"), timezone.override("Europe/Paris"):
            assert completed() == ["completed"]
            assert translation.get_language() == "de"
            assert timezone.get_current_timezone_name() == "Europe/Paris"
        assert get_urlconf() == "tests.app.urls"
    finally:
        set_urlconf(None)


def served() -> list[str]:
    """What a request of another thread does to that thread's connection."""
    seen: list[str] = []

    def serve() -> None:
        own = vars(connections["default"])
        own["close_if_unusable_or_obsolete"] = lambda: seen.append("closed if old")
        request_started.send(sender=None)
        seen.append("answered")
        request_finished.send(sender=None)

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    return seen


def test_request_of_another_thread_closes_its_old_connections_meanwhile(
    key: str, post: Post
) -> None:
    """While a request is completed inside a transaction, too."""
    failures, seen = [DownError()], []

    @plays
    def act(op: Any) -> None:
        if failures:
            raise failures.pop()
        seen.extend(served())

    assert post("/kept/", key).status_code == 500
    due()
    with transaction.atomic():
        assert [done.completion for done in complete_due()] == ["completed"]
    assert seen == ["closed if old", "answered", "closed if old"]


def test_transaction_that_is_open_survives_a_completion(key: str, post: Post) -> None:
    """However old its connection is, and whether or not the completed view completes another."""
    failures = [DownError()]

    @plays
    def act(op: Any) -> None:
        if failures:
            raise failures.pop()
        complete("default", op.record_id)

    assert post("/kept/", key).status_code == 500
    with transaction.atomic():
        Order.objects.create(nonce="before")
        connection.close_at = 0
        assert completed() == ["completed"]
        assert "close_if_unusable_or_obsolete" not in vars(connections["default"])
    assert Order.objects.filter(nonce="before").exists()


@pytest.mark.parametrize("is_open", [False, True], ids=["outside", "inside"])
def test_project_hears_of_the_request_that_is_completed(
    is_open: bool, key: str, post: Post
) -> None:
    """Its receivers of Django's signals, outside of a transaction and inside."""
    failures = [DownError()]

    @plays
    def act(op: Any) -> None:
        if failures:
            raise failures.pop()

    assert post("/kept/", key).status_code == 500
    heard: list[Any] = []

    def hear(sender: Any, **kwargs: Any) -> None:
        heard.append((kwargs["signal"], sender))

    signals = (request_started, request_finished)
    for signal in signals:
        signal.connect(hear)
    try:
        due()
        with transaction.atomic() if is_open else nullcontext():
            assert [done.completion for done in complete_due()] == ["completed"]
    finally:
        for signal in signals:
            signal.disconnect(hear)
    assert heard == [(request_started, BaseHandler), (request_finished, None)]
