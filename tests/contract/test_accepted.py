"""``respond="accepted"``: a request is stored, answered with 202, and run by a completer."""

import uuid
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch
from pytest_django import Settings

from django_idempotency.durable.completer import Completion, complete_due
from django_idempotency.models import IdempotencyEnvelope, IdempotencyRecord
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import ASYNC, DOORS
from tests.conftest import Post
from tests.contract.test_strangers import by_session

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PLAIN = "/function/"
# At this door the caller is a user without a row in the database.
WITHOUT_USER = "/wrapped/"
EVERY_DOOR = [door for door in (*DOORS, *ASYNC, "/ninja/door/") if door != WITHOUT_USER]


@pytest.fixture(autouse=True)
def accepting(settings: Settings) -> None:
    """Every view accepts."""
    settings.IDEMPOTENCY_RESPOND = "accepted"


def complete() -> list[Completion]:
    """Finish what is due, as a completer does."""
    return [done.completion for done in complete_due()]


def state(url: str, client: Client | None = None) -> Any:
    """The operation's state on its status page."""
    response = (client or Client()).get(url)
    assert response.status_code == 200
    return response.json()


@pytest.mark.parametrize("door", EVERY_DOOR)
def test_request_is_accepted_then_run_once_then_replayed(
    door: str, post: Post, key: str, atomic_requests: bool
) -> None:
    """Every repetition is accepted until there is a response, and then gets it."""
    first, second = post(door, key), post(door, key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.content == second.content
    assert first["Location"] == second["Location"] == first.json()["url"]
    assert (first["Retry-After"], first["Idempotency-Key"]) == ("1", key)
    assert effects.count() == Order.objects.count() == 0
    assert state(first["Location"])["state"] == "accepted"
    assert complete() == [Completion.COMPLETED]
    assert effects.count() == Order.objects.count() == 1
    assert not IdempotencyEnvelope.objects.exists()
    last = post(door, key)
    assert (last.status_code, last["Idempotent-Replayed"]) == (201, "true")
    told = state(first["Location"])
    assert (told["state"], told["response"]["status"]) == ("completed", 201)
    response = Client().get(told["response"]["url"])
    assert (response.status_code, response.content) == (201, last.content)
    assert effects.count() == 1
    assert complete() == []


@pytest.mark.parametrize("act", ["crash", "unavailable"])
def test_failed_run_is_pending_and_tried_again(post: Post, key: str, act: str) -> None:
    """The client gets 202 as long as there will be another attempt."""
    first = post(PLAIN, key, act=act)
    assert complete() == [Completion.PENDING]
    assert state(first["Location"])["state"] == "pending"
    assert post(PLAIN, key, act=act).status_code == 202
    IdempotencyEnvelope.objects.update(due_at=None)
    assert state(first["Location"])["state"] == "stopped"
    refused = post(PLAIN, key, act=act)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_attempts_exhausted")


def test_answer_without_outcome_frees_the_key(post: Post, key: str) -> None:
    """After a 401 the key is free, and the corrected request is accepted with it."""
    first = post(PLAIN, key, act="unauthorized")
    assert complete() == [Completion.REFUSED]
    assert state(first["Location"])["state"] == "refused"
    assert post(PLAIN, key, act="unauthorized").status_code == 202
    assert state(first["Location"])["state"] == "accepted"


def test_other_request_with_the_key_is_refused(post: Post, key: str) -> None:
    """Accepted or finished, the key belongs to its first request."""
    assert post(PLAIN, key).status_code == 202
    assert post(PLAIN, key, body={"cake": "other"}).status_code == 422
    complete()
    assert post(PLAIN, key, body={"cake": "other"}).status_code == 422
    assert effects.count() == 1


def test_keyless_request_runs_at_once(post: Post) -> None:
    """Without a key, the client could not ask for the operation."""
    assert post(PLAIN).status_code == 201
    assert effects.count() == 1


def test_body_too_large_to_be_stored_is_run_at_once(
    post: Post, key: str, settings: Settings
) -> None:
    """The client gets the final response immediately."""
    settings.IDEMPOTENCY_MAX_REQUEST_BYTES = 5
    assert post(PLAIN, key).status_code == 201
    assert not IdempotencyEnvelope.objects.exists()


def test_crash_before_the_request_was_stored_is_repaired_by_a_retry(post: Post, key: str) -> None:
    """A completer cannot run a claim without a stored request, so the retry stores it."""
    post(PLAIN, key)
    IdempotencyEnvelope.objects.all().delete()
    assert complete() == []
    assert post(PLAIN, key).status_code == 202
    assert complete() == [Completion.COMPLETED]
    assert effects.count() == 1


def test_stranger_does_not_see_an_operation(key: str) -> None:
    """Neither its state nor its response: both get the 404 of an unknown operation."""
    alice, bob = by_session("alice"), by_session("bob")
    response: Any = alice.post(PLAIN, headers={"Idempotency-Key": key})
    url = response["Location"]
    complete()
    for stranger in (bob, Client()):
        assert stranger.get(url).status_code == 404
        assert stranger.get(f"{url}response/").status_code == 404
    assert alice.get(f"/operations/{uuid.uuid4()}/").status_code == 404
    told = state(url, alice)
    assert told["state"] == "completed"
    assert alice.get(told["response"]["url"]).status_code == 201


def test_operation_runs_for_the_user_who_sent_it(key: str) -> None:
    """The completer runs it as the user who had logged in, and as no other."""
    alice = by_session("alice")
    alice.post("/who/", headers={"Idempotency-Key": key})
    complete()
    record = IdempotencyRecord.objects.get()
    assert record.scope.startswith("user:")
    assert record.status == "completed"


def test_operation_of_a_deleted_user_is_given_up(post: Post, key: str) -> None:
    """An operation never runs for a user who may no longer log in."""
    assert post(WITHOUT_USER, key).status_code == 202
    assert complete() == [Completion.GIVEN_UP]
    assert effects.count() == 0
    assert complete() == []


def test_response_is_a_404_until_there_is_one(post: Post, key: str) -> None:
    """404, and not an empty 200."""
    url = post(PLAIN, key)["Location"]
    assert Client().get(f"{url}response/").status_code == 404


def test_accepting_costs_few_statements(post: Post, key: str) -> None:
    """Two SELECTs, the claim and the stored request."""
    post(PLAIN, "another-key-of-the-caller")
    with CaptureQueriesContext(connection) as captured:
        post(PLAIN, key)
    ours = [q["sql"] for q in captured if "django_idempotency" in q["sql"]]
    assert len(ours) == 4


def test_missing_urls_are_found_before_anything_is_claimed(post: Post, key: str) -> None:
    """By a system check, and by the first request, which claims nothing."""
    with override_settings(ROOT_URLCONF="tests.app.urls_without_operations"):
        assert "django_idempotency.E006" in {found.id for found in run_checks()}
        with pytest.raises(NoReverseMatch):
            Client().post(PLAIN, headers={"Idempotency-Key": key})
    assert not IdempotencyRecord.objects.exists()
    assert "django_idempotency.E006" not in {found.id for found in run_checks()}
