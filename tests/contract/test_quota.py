"""``max_keys_per_scope`` counts a caller's new keys, and refuses nothing but new keys."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from unittest.mock import patch

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection, connections
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.protocol import quota
from django_idempotency.storage.records import Store
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import ASYNC, DOORS, served
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

MIDNIGHT = 1_700_006_400.0


@pytest.fixture(autouse=True)
def limit(settings: Settings) -> None:
    """Two keys for each caller, and none used yet."""
    settings.IDEMPOTENCY_MAX_KEYS_PER_SCOPE = 2
    cache.clear()


def fresh() -> str:
    """A key that was not used before."""
    return uuid.uuid4().hex


def statements(send: Any) -> list[str]:
    """The statements on the records' table that one request needs."""
    with CaptureQueriesContext(connection) as captured:
        send()
    return [q["sql"] for q in captured if "django_idempotency_idempotencyrecord" in q["sql"]]


@pytest.mark.parametrize("door", [*DOORS, *ASYNC, "/ninja/door/"])
def test_one_key_too_many_is_a_429(door: str, post: Post, atomic_requests: bool) -> None:
    """Nothing runs or is recorded, and the key can be used later."""
    keys = [fresh() for _ in range(3)]
    assert [post(door, key).status_code for key in keys] == [201, 201, 429]
    assert effects.count() == Order.objects.count() == IdempotencyRecord.objects.count() == 2
    refused = post(door, keys[2])
    assert (refused.status_code, refused["Retry-After"]) == (429, "60")
    assert refused["Idempotency-Key"] == keys[2]
    cache.clear()
    assert post(door, keys[2]).status_code == 201


@pytest.mark.parametrize("door", served("/function/", "/mixin/"))
def test_known_key_is_never_refused(door: str, post: Post, atomic_requests: bool) -> None:
    """Replays, further attempts and requests without a key are not refused."""
    keys = [fresh(), fresh()]
    post(door, keys[0])
    post(door, keys[1], act="crash")
    assert post(door, fresh()).status_code == 429
    for _ in range(3):
        assert post(door, keys[0])["Idempotent-Replayed"] == "true"
        assert post(door, keys[1], act="crash").status_code == 500
        assert post(door).status_code == 201
    other = post(door, keys[0], body={"cake": "carrot"})
    assert other.status_code == 422


def test_one_key_sent_often_is_one_key(post: Post) -> None:
    """However its attempts ended."""
    first, second = fresh(), fresh()
    for act in ("crash", "unavailable", "unauthorized", "order", "order"):
        post("/function/", first, act=act)
    assert post("/function/", second).status_code == 201
    assert post("/function/", fresh()).status_code == 429


def test_takeover_needs_no_new_key(post: Post) -> None:
    """A takeover is another attempt of a known key."""
    key = fresh()
    post("/plainly/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    past = F("lease_expires_at") - timedelta(days=1)
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, lease_expires_at=past, **dict.fromkeys(answer)
    )
    post("/function/", fresh())
    assert post("/function/", fresh()).status_code == 429
    assert post("/plainly/", key).status_code == 201
    assert IdempotencyRecord.objects.get(key=key).attempts == 2


def test_expired_key_is_a_new_one(post: Post) -> None:
    """Whether or not its record has been cleaned up."""
    keys = [fresh(), fresh()]
    for key in keys:
        post("/function/", key)
    IdempotencyRecord.objects.update(expires_at=F("expires_at") - timedelta(days=2))
    assert post("/function/", keys[0]).status_code == 429
    assert effects.count() == 2
    cache.clear()
    assert post("/function/", keys[0]).status_code == 201
    assert effects.count() == 3


def test_callers_are_counted_apart(post: Post) -> None:
    """One caller does not use up another's quota."""
    for caller in ("Bearer one", "Bearer two"):
        for status in (201, 201, 429):
            assert post("/exempt/", fresh(), Authorization=caller).status_code == status


def test_count_begins_again_with_each_window(monkeypatch: pytest.MonkeyPatch, post: Post) -> None:
    """A window is as long as the retention; one of a day ends with the day."""
    for moment in (MIDNIGHT - 60, MIDNIGHT, MIDNIGHT + 24 * 60 * 60):
        monkeypatch.setattr(quota.time, "time", lambda moment=moment: moment)
        for status in (201, 201, 429):
            assert post("/function/", fresh()).status_code == status


def test_scope_is_not_in_the_cache(post: Post) -> None:
    """The keys of a cache show up in many tools."""
    with patch.object(LocMemCache, "add", autospec=True, side_effect=LocMemCache.add) as add:
        post("/function/", fresh())
    (name,) = [call.args[1] for call in add.call_args_list]
    assert IdempotencyRecord.objects.get().scope not in name
    assert len(name) < 200


@pytest.mark.parametrize("method", ["add", "incr"])
def test_cache_that_is_down_refuses_nothing(
    method: str, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so."""
    with patch.object(LocMemCache, method, side_effect=ConnectionError("gone")):
        assert [post("/function/", fresh()).status_code for _ in range(3)] == [201] * 3
    assert "let through" in caplog.text


def test_dummy_cache_counts_nothing(post: Post, settings: Settings) -> None:
    """Every key is accepted."""
    settings.CACHES = {"none": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    settings.IDEMPOTENCY_QUOTA_CACHE = "none"
    assert [post("/function/", fresh()).status_code for _ in range(3)] == [201] * 3


@pytest.mark.parametrize("outcome", ["error", "lost"])
def test_failed_claim_does_not_count(outcome: str, post: Post) -> None:
    """If the store is down, or another request wins the race."""
    key = fresh()
    post("/function/", key)
    if outcome == "error":
        with patch.object(Store, "insert", side_effect=OperationalError("gone")):
            assert [post("/function/", fresh()).status_code for _ in range(3)] == [503] * 3
    else:
        read, unseen = Store.read, [None]
        with patch.object(
            Store, "read", lambda store, pk: unseen.pop() if unseen else read(store, pk)
        ):
            assert post("/function/", key)["Idempotent-Replayed"] == "true"
        assert not unseen
    assert [post("/function/", fresh()).status_code for _ in range(2)] == [201, 429]


def test_new_key_is_looked_for_first(post: Post, settings: Settings) -> None:
    """By a SELECT, which MariaDB and SQLite need anyway; a refusal costs no more than that."""
    key = fresh()
    assert len(statements(lambda: post("/function/", key))) == 4
    assert len(statements(lambda: post("/function/", key))) == 1
    post("/function/", fresh())
    (asked,) = statements(lambda: post("/function/", fresh()))
    assert asked.startswith("SELECT")
    settings.IDEMPOTENCY_MAX_KEYS_PER_SCOPE = None
    looks = connection.vendor != "postgresql"
    assert len(statements(lambda: post("/function/", fresh()))) == 3 + looks
    assert len(statements(lambda: post("/function/", key))) == 1


@pytest.mark.parametrize("rounds", range(5))
def test_racing_callers_get_exactly_the_limit(rounds: int, settings: Settings) -> None:
    """12 threads with a key each get as many claims as the limit: incr() is atomic."""
    settings.IDEMPOTENCY_MAX_KEYS_PER_SCOPE = 5
    barrier = Barrier(12)

    def racer(key: str) -> int:
        barrier.wait()
        try:
            reply: Any = Client().post("/function/", headers={"Idempotency-Key": key})
            return int(reply.status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        statuses = Counter(pool.map(racer, [fresh() for _ in range(12)]))
    assert statuses == {201: 5, 429: 7}
    assert effects.count() == Order.objects.count() == IdempotencyRecord.objects.count() == 5
