"""A repeated request gets the first reply, for every kind of response and every door."""

import pytest
from django.http import HttpResponse
from django.test import Client
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import ASYNC, DOORS, served
from tests.conftest import Post

pytestmark = [
    pytest.mark.cached,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

KINDS = {
    "order": 201,
    "latin": 200,
    "binary": 200,
    "no_content": 204,
    "redirect": 302,
    "page": 200,
    "file": 200,
    "payment_required": 402,
}
MARKS = {"Idempotent-Replayed"}


def body(response: HttpResponse) -> bytes:
    """The bytes that a client reads."""
    return b"".join(response)


def lasting(response: HttpResponse) -> dict[str, str]:
    """The headers without the mark of a replay."""
    return {name: value for name, value in response.items() if name not in MARKS}


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
@pytest.mark.parametrize("kind", KINDS)
def test_repeated_request_gets_the_first_reply(
    door: str, kind: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """One effect; same status, bytes and headers; no cookies."""
    first = post(door, key, act=kind)
    second = post(door, key, act=kind)
    assert Order.objects.count() == effects.count() == 1
    assert first.status_code == second.status_code == KINDS[kind]
    assert body(first) == body(second)
    assert lasting(first) == lasting(second)
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert second["Idempotency-Key"] == key
    assert not second.cookies
    assert IdempotencyRecord.objects.get().attempts == 1


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
def test_request_without_a_key_runs_each_time(door: str, post: Post, atomic_requests: bool) -> None:
    """Nothing is recorded, and nothing is replayed."""
    replies = {body(post(door)) for _ in range(2)}
    assert Order.objects.count() == effects.count() == len(replies) == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
def test_other_body_is_refused(door: str, key: str, post: Post, atomic_requests: bool) -> None:
    """422, and the view does not run."""
    post(door, key)
    other = post(door, key, body={"cake": "carrot"})
    assert Order.objects.count() == effects.count() == 1
    assert other.status_code == 422
    assert other["Idempotency-Key"] == key


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
def test_uncovered_method_ignores_the_key(
    door: str, key: str, client: Client, atomic_requests: bool
) -> None:
    """A GET with a key runs each time."""
    for _ in range(2):
        assert client.get(door, headers={"Idempotency-Key": key}).status_code == 201
    assert effects.count() == 2
    assert not IdempotencyRecord.objects.exists()


@pytest.mark.drf
def test_action_that_opted_out_runs_each_time(key: str, post: Post, atomic_requests: bool) -> None:
    """``@idempotent(methods=())`` on an action wins over the mixin."""
    for _ in range(2):
        assert post("/viewset/free/", key).status_code == 201
    assert Order.objects.count() == effects.count() == 2


@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_body_over_the_limit_is_left_out_and_never_run_again(
    door: str, key: str, post: Post, settings: Settings
) -> None:
    """The replay keeps status and headers, and says that the body is missing."""
    settings.IDEMPOTENCY_MAX_RESPONSE_BYTES = 10
    first, second = post(door, key), post(door, key)
    assert effects.count() == 1
    assert second.status_code == first.status_code
    assert second["Location"] == first["Location"]
    assert second["Idempotent-Body"] == "omitted"
    assert second.content == b""
    assert "ETag" not in second
    assert "Content-Type" not in second


def test_file_over_the_limit_still_reaches_the_first_caller(
    key: str, post: Post, settings: Settings
) -> None:
    """The part that was read to see its size is sent as well."""
    settings.IDEMPOTENCY_MAX_RESPONSE_BYTES = 10
    assert len(body(post("/function/", key, act="file"))) == 3200
    assert body(post("/function/", key, act="file")) == b""
    assert effects.count() == 1


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize("door", DOORS)
def test_stream_is_refused_before_it_commits(
    door: str, key: str, with_key: bool, post: Post, atomic_requests: bool
) -> None:
    """A stream cannot be repeated: 500 and no row, with and without a key."""
    assert post(door, key if with_key else None, act="stream").status_code == 500
    assert not Order.objects.exists()
