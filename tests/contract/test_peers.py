"""The comparison with other packages: a test for each row, through both frameworks.

The rows are those in which packages for Django differ: races, retries, replays, strangers, keys and
bodies. Kills and restarts have a ring of their own (tests/crash).
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client
from django.test.client import encode_multipart
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects, views
from tests.app.models import Order
from tests.app.urls import served
from tests.concurrency.test_racers import race
from tests.conftest import Post, atomic_requests_on
from tests.unit.storage.test_statements import statements

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

RACERS = 16
UPLOAD_BYTES = 3_500_000


@pytest.fixture(params=served("/function/", "/mixin/"))
def door(request: pytest.FixtureRequest) -> str:
    """Plain Django's door, and REST framework's."""
    return request.param  # type: ignore[no-any-return]


def effects_were(number: int) -> bool:
    """The view ran so often, by the count in the database and by the one outside of it."""
    return Order.objects.count() == effects.count() == number


def test_16_racers_run_once(door: str, key: str, post: Post) -> None:
    """The others get 409 or the reply."""
    replies = race(lambda: post(door, key, act="slow"), RACERS)
    assert effects_were(1)
    assert {reply.status_code for reply in replies} <= {201, 409}


class Kitchen:
    """A view that works until it is told to finish."""

    def __init__(self) -> None:
        self.begun, self.done = Event(), Event()

    def __call__(self, request: Any, nonce: str) -> Any:
        self.begun.set()
        self.done.wait(20)
        return views.json_response(request, {"nonce": nonce})


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Kitchen:
    """The view of ``?act=busy``."""
    kitchen = Kitchen()
    monkeypatch.setitem(views.ACTS, "busy", kitchen)
    return kitchen


def closing(post: Post, *args: Any, **kwargs: Any) -> HttpResponse:
    """Send a request in a thread, and close the thread's connections."""
    try:
        return post(*args, **kwargs)
    finally:
        connections.close_all()


def test_duplicate_in_flight_is_answered_at_once(
    door: str, key: str, post: Post, busy: Kitchen
) -> None:
    """409 and Retry-After: if it waited for the first, it would get a 201."""
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(closing, post, door, key, act="busy")
        assert busy.begun.wait(20)
        again = post(door, key, act="busy")
        busy.done.set()
        assert first.result().status_code == 201
    assert effects_were(1)
    assert (again.status_code, again["Retry-After"]) == (409, "1")


def test_duplicate_in_flight_may_wait(
    door: str, key: str, post: Post, busy: Kitchen, settings: Settings
) -> None:
    """For a limited time; then it gets the first reply."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=20)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(closing, post, door, key, act="busy")
        assert busy.begun.wait(20)
        again = pool.submit(closing, post, door, key, act="busy")
        time.sleep(0.2)
        busy.done.set()
        replies = [first.result(), again.result()]
    assert effects_were(1)
    assert [reply.status_code for reply in replies] == [201, 201]
    assert replies[0].content == replies[1].content


@pytest.mark.parametrize(
    "kind", ["order", "latin", "binary", "no_content", "redirect", "page", "file"]
)
def test_every_kind_of_response_is_replayed_to_the_byte(
    kind: str, door: str, key: str, post: Post
) -> None:
    """With its status and headers, without its cookies."""
    first, again = post(door, key, act=kind), post(door, key, act=kind)
    assert effects_were(1)
    assert b"".join(first) == b"".join(again)
    assert first.status_code == again.status_code
    assert dict(again.items()) == {**dict(first.items()), "Idempotent-Replayed": "true"}
    assert not again.cookies


def test_another_user_never_gets_the_reply(door: str, key: str) -> None:
    """The same key of two users is two keys."""
    replies = []
    for name in ("alice", "bob"):
        client = Client()
        client.force_login(User.objects.create(username=name))
        replies.append(client.post(door, headers={"Idempotency-Key": key}).content)
    assert effects_were(2)
    assert replies[0] != replies[1]


def test_another_body_is_refused(door: str, key: str, post: Post) -> None:
    """422, and nothing runs."""
    post(door, key)
    assert post(door, key, body={"cake": "carrot"}).status_code == 422
    assert effects_were(1)


@pytest.mark.parametrize("act", ["crash", "unavailable"], ids=["exception", "503"])
def test_retry_after_a_failure_runs_at_once(act: str, door: str, key: str, post: Post) -> None:
    """The failure leaves no writes, and is not replayed."""
    replies = [post(door, key, act=act) for _ in range(2)]
    assert effects.count() == 2
    assert not Order.objects.exists()
    assert all(reply.status_code >= 500 for reply in replies)
    assert not any("Idempotent-Replayed" in reply for reply in replies)


def test_failing_commit_under_atomic_requests_is_not_replayed(
    door: str, key: str, post: Post
) -> None:
    """No 201 is replayed whose writes are not there."""
    with atomic_requests_on("default"):
        replies = [post(door, key, act="homeless") for _ in range(2)]
    assert not Order.objects.exists()
    assert all(reply.status_code == 500 for reply in replies)


@pytest.mark.drf
def test_rest_framework_s_error_under_atomic_requests_is_its_400(key: str, post: Post) -> None:
    """The writes are rolled back, and the key is free."""
    with atomic_requests_on("default"):
        assert post("/mixin/", key, act="invalid").status_code == 400
    assert not Order.objects.exists()
    assert IdempotencyRecord.objects.get().status == Status.RELEASED


def test_quoted_key_is_the_same_key(door: str, key: str, post: Post) -> None:
    """RFC 9651."""
    first, again = post(door, key), post(door, f'"{key}"')
    assert effects_were(1)
    assert first.content == again.content


def test_key_of_300_characters_is_refused_without_a_query(door: str, post: Post) -> None:
    """Each time with 400."""
    with CaptureQueriesContext(connection) as queries:
        assert {post(door, "k" * 300).status_code for _ in range(3)} == {400}
    assert len(queries) == 0
    assert effects_were(0)


def test_key_need_not_be_a_uuid(door: str, post: Post) -> None:
    """Any visible ASCII characters will do."""
    assert post(door, "order/2026-11-25:table~9").status_code == 201
    assert effects_were(1)


@pytest.mark.parametrize("boundaries", ["aa", "ab"], ids=["same-boundary", "new-boundary"])
def test_upload_of_3_5_mb_works_and_is_the_same_request(
    boundaries: str, door: str, key: str
) -> None:
    """Larger than DATA_UPLOAD_MAX_MEMORY_SIZE, and with a new boundary, as clients make one."""
    replies = []
    for boundary in boundaries:
        file = SimpleUploadedFile("cake.jpg", b"x" * UPLOAD_BYTES)
        body = encode_multipart(boundary, {"file": file})
        kind = f"multipart/form-data; boundary={boundary}"
        sent = Client().post(door, body, content_type=kind, headers={"Idempotency-Key": key})
        replies.append(sent)
    assert effects_were(1)
    assert [reply.status_code for reply in replies] == [201, 201]
    assert replies[0].content == replies[1].content


def test_stream_is_refused_before_anything_is_committed(door: str, key: str, post: Post) -> None:
    """It could not be sent a second time."""
    assert post(door, key, act="stream").status_code == 500
    assert not Order.objects.exists()


def test_16_unrelated_keys_all_succeed(door: str, post: Post) -> None:
    """Even if they all need the same write lock."""
    keys = iter([f"{number:032d}" for number in range(RACERS)])
    replies = race(lambda: post(door, next(keys)), RACERS)
    assert effects_were(RACERS)
    assert {reply.status_code for reply in replies} == {201}


def test_fresh_request_costs_three_statements_and_a_replay_two(key: str, post: Post) -> None:
    """Beyond the view's own; one more where a SELECT has to come first (``test_statements.py``)."""
    fresh, replayed = (statements(lambda: post("/function/", key)) for _ in range(2))
    own = 1
    assert len(fresh) - own <= 3 + (connection.vendor != "postgresql")
    assert len(replayed) <= 2
