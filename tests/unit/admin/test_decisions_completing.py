"""The completer at the press of a button: confirmed first, its result reported, and logged."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connections
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone, translation
from pytest_django import Settings

from django_idempotency.models import IdempotencyEnvelope, IdempotencyRecord, Status
from tests.conftest import Post
from tests.support import stage
from tests.support.stage import DeclinedError, DownError, Service, plays, runs

from . import client_of, decide, entries, left, page_of, told

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls("tests.unit.admin.urls"),
]

LATER = datetime.now(UTC) + timedelta(hours=1)
FINISHED = "The operation is finished: its response is saved."
BUSY = "Nothing was done: somebody else runs it just now."
NOTHING = "There is nothing to finish any more."


@pytest.fixture
def admin(admin: Client) -> Client:
    """A superuser's client that does not raise the errors of the view."""
    admin.raise_request_exception = False
    return admin


def press(client: Client, record: IdempotencyRecord, **data: Any) -> Any:
    """Press the button, and confirm."""
    return decide(client, record, "complete", **data)


def flaky(op: Any) -> Any:
    """Bakes once, and fails until the third attempt."""
    cake = op.step("bake", stage.bake)
    if op.attempt < 3:
        raise DownError
    return cake


def second_time(op: Any) -> Any:
    """Fails in the first attempt, and bakes in the second."""
    if op.attempt == 1:
        raise DownError
    return stage.bake()


def declined() -> None:
    """A step that fails for good."""
    raise DeclinedError


def unfinished(post: Post, key: str, act: stage.Act = flaky) -> IdempotencyRecord:
    """The operation of a view with a stored request, after its first attempt."""
    plays(act)
    post("/kept/", key)
    return IdempotencyRecord.objects.get(key=key)


def test_operation_is_finished(admin: Client, post: Post, key: str) -> None:
    """Its recorded step is not run again, and the client gets the response."""
    record = unfinished(post, key)
    assert told(press(admin, record)) == [
        "It is not finished yet, and is tried again later. (DownError)"
    ]
    response = press(admin, record)
    assert told(response) == [FINISHED]
    assert response.redirect_chain[-1][0] == page_of(record)
    assert runs("bake lemon") == 1
    assert post("/kept/", key)["Idempotent-Replayed"] == "true"
    assert entries() == ["Ran the completer."] * 2


@pytest.mark.usefixtures("atomic_requests")
def test_calls_are_made_outside_of_any_transaction(admin: Client, post: Post, key: str) -> None:
    """The admin has no transaction around the view, whatever ATOMIC_REQUESTS is."""
    service = Service(DownError())
    record = unfinished(post, key, lambda op: op.call("charge", service))
    assert told(press(admin, record)) == [FINISHED]
    assert len(service.keys) == 2
    assert len(service.ledger) == 1


def test_second_click_finds_nothing_to_do(admin: Client, post: Post, key: str) -> None:
    """The form is sent twice, and the operation runs once."""
    record = unfinished(post, key, second_time)
    press(admin, record)
    assert told(press(admin, record)) == [NOTHING]
    assert runs("bake lemon") == 1
    assert entries() == ["Ran the completer."]


def test_second_click_at_the_same_time_is_refused(admin: Client, post: Post, key: str) -> None:
    """While the first is still running."""
    answers: list[list[str]] = []

    def click() -> None:
        other = Client()
        other.cookies = admin.cookies
        answers.append(told(press(other, record)))
        connections.close_all()

    record = unfinished(post, key, second_time)

    @plays
    def act(op: Any) -> Any:
        thread = threading.Thread(target=click)
        thread.start()
        thread.join()
        return stage.bake()

    assert told(press(admin, record)) == [FINISHED]
    assert answers == [[BUSY]]
    assert runs("bake lemon") == 1


def test_nothing_is_done_before_the_confirmation(admin: Client, post: Post, key: str) -> None:
    """The page names the record and the consequences; a GET redirects to the record."""
    record = unfinished(post, key)
    response = press(admin, record, post=None)
    assert response.status_code == 200
    assert key in response.content.decode()
    assert "in the name of its user" in response.content.decode()
    url = page_of(record).replace("change", "complete")
    assert admin.get(url)["Location"] == page_of(record)
    assert stage.envelope().tries == 0
    assert entries() == []


@pytest.mark.parametrize("permission", ["release", "expire", "view_response"])
def test_other_permissions_do_not_help(post: Post, key: str, permission: str) -> None:
    """Nor does the right permission without the one to view records."""
    record = unfinished(post, key)
    for client in (client_of("view_idempotencyrecord", permission), client_of("complete")):
        assert decide(client, record, "complete").status_code == 403
        assert decide(client, record, "resolve", decision="done").status_code == 403
    assert stage.envelope().tries == 0


def test_permission_lets_it_run(post: Post, key: str) -> None:
    """The log says which user it was."""
    record = unfinished(post, key)
    client = client_of("view_idempotencyrecord", "complete")
    client.raise_request_exception = False
    decide(client, record, "complete")
    entry = LogEntry.objects.get()
    assert entry.user.username == "staff_view_idempotencyrecord_complete"
    assert entry.object_id == str(record.pk)
    assert entry.change_message == "Ran the completer."


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda op: HttpResponse(status=422), "without an outcome"),
        (lambda op: op.step("pay", declined, fatal=(DeclinedError,)), "no other attempt"),
        (lambda op: 1 / 0, "is tried again later. (ZeroDivisionError)"),
    ],
    ids=["refused", "failed", "pending"],
)
def test_result_is_reported(
    admin: Client, post: Post, key: str, act: stage.Act, message: str
) -> None:
    """In words."""
    record = unfinished(post, key, lambda op: 1 / 0)
    plays(act)
    (text,) = told(press(admin, record))
    assert message in text


def test_operation_of_a_deleted_user_is_given_up(admin: Client, post: Post, key: str) -> None:
    """A view never runs for a user who does not exist any more."""
    record = unfinished(post, key)
    IdempotencyEnvelope.objects.update(user_id="4711")
    (text,) = told(press(admin, record))
    assert text.startswith("It cannot go on, and is not tried again.")
    assert runs("bake lemon") == 1


def test_given_up_operation_can_be_taken_up(admin: Client, post: Post, key: str) -> None:
    """A person may try again after the cause is gone."""
    record = unfinished(post, key, second_time)
    IdempotencyEnvelope.objects.update(due_at=None)
    assert told(press(admin, record)) == [FINISHED]


def test_running_operation_is_left_alone(admin: Client, post: Post, key: str) -> None:
    """Because its lease is not over."""
    record = unfinished(post, key)
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS, lease_expires_at=LATER)
    assert told(press(admin, record)) == [BUSY]
    assert runs("bake lemon") == 1


def test_record_without_a_stored_request_says_so(admin: Client) -> None:
    """There is no request to repeat, and nothing to log."""
    assert told(decide(admin, left(), "complete")) == [NOTHING]
    assert entries() == []


def test_unknown_record_leads_to_the_index(admin: Client) -> None:
    """As everywhere in the admin."""
    record = left()
    url = page_of(record).replace("change", "complete")
    record.delete()
    response = admin.post(url, {"post": "yes"}, follow=True)
    assert response.redirect_chain[-1][0] == "/admin/"


def test_language_and_time_zone_of_the_other_request_are_reset(
    admin: Client, post: Post, key: str
) -> None:
    """Language and time zone of the admin's page stay."""

    def act(op: Any) -> Any:
        if op.attempt == 1:
            raise DownError
        translation.activate("de")
        timezone.activate("Asia/Tokyo")
        return 1

    record = unfinished(post, key, act)
    with translation.override("fr"), timezone.override("Europe/Paris"):
        press(admin, record)
        assert translation.get_language() == "fr"
        assert timezone.get_current_timezone_name() == "Europe/Paris"


def test_urls_of_the_other_request_are_reset(
    admin: Client, post: Post, key: str, settings: Settings
) -> None:
    """The admin may have URLs that the rest of the project does not have."""
    page = page_of(unfinished(post, key, second_time))
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.unit.admin.urls.of_its_own"]
    settings.ROOT_URLCONF = "tests.support.stage"
    response = admin.post(page.replace("change", "complete"), {"post": "yes"})
    assert response["Location"] == page
    assert stage.record().status == Status.COMPLETED


def test_records_of_another_database_are_completed_there(
    admin: Client, post: Post, key: str, settings: Settings
) -> None:
    """In the database that the router chooses."""
    settings.DATABASE_ROUTERS = ["tests.unit.admin.routers.Apart"]
    plays(second_time)
    post("/kept/", key)
    record = IdempotencyRecord.objects.using("other").get()
    assert told(press(admin, record)) == [FINISHED]
    record.refresh_from_db()
    assert record.status == Status.COMPLETED
    assert not IdempotencyRecord.objects.using("default").exists()
