"""The replay cache takes no SQL for a reply that it has, and replays nothing that has expired."""

import pickle
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, UtcNow
from django_idempotency.replay_cache import replays as replay_cache
from django_idempotency.replay_cache.replays import Replays, Slot
from django_idempotency.replay_cache.transport import Breaker
from django_idempotency.storage.values import Intent, StoredResponse
from tests.app import effects
from tests.app.models import Order
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
RESPONSE = StoredResponse(201, [("X-Cake", "lemon")], b"cake")
DAY = 86400.0
ONE = uuid.UUID(int=1)


@pytest.fixture(autouse=True)
def cached(settings: Settings) -> Iterator[None]:
    """Replays are cached in this process."""
    settings.IDEMPOTENCY_CACHE = "default"
    caches["default"].clear()
    replay_cache._breaker.cache_clear()
    yield
    caches["default"].clear()
    replay_cache._breaker.cache_clear()


@contextmanager
def no_sql() -> Iterator[None]:
    """No statement is sent inside."""
    with CaptureQueriesContext(connection) as captured:
        yield
    assert [query["sql"] for query in captured] == []


def intent(**changes: Any) -> Intent:
    """Some request."""
    values: dict[str, Any] = {
        "id": ONE,
        "scope": "anonymous",
        "key": "a-key",
        "fingerprint": b"f" * 32,
        "method": "POST",
        "path": "/",
    }
    return Intent(**values | changes)


def look(**changes: Any) -> Slot:
    """What the cache has for that request."""
    return Replays("default", "default").look(intent(**changes))


def test_replay_after_a_commit_needs_no_sql(post: Post, key: str) -> None:
    """The first request has put its response into the cache."""
    first = post(DOOR, key)
    with no_sql():
        again = post(DOOR, key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert effects.count() == Order.objects.count() == 1


def test_replay_from_the_database_is_the_last_one(post: Post, key: str) -> None:
    """Such a replay fills the cache."""
    post(DOOR, key)
    caches["default"].clear()
    with CaptureQueriesContext(connection) as captured:
        post(DOOR, key)
    assert len(captured) > 0
    with no_sql():
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"


def test_other_request_is_the_databases_to_refuse(post: Post, key: str) -> None:
    """The database answers 422, as without a cache."""
    post(DOOR, key)
    assert post(DOOR, key, body={"cake": "other"}).status_code == 422
    assert effects.count() == 1


@pytest.mark.parametrize("act", ["crash", "unavailable", "unauthorized", "rolls_back"])
def test_what_is_no_outcome_is_not_there(post: Post, key: str, act: str) -> None:
    """The next request with the key runs."""
    post(DOOR, key, act=act)
    post(DOOR, key, act=act)
    assert effects.count() == 2


def test_entry_lives_no_longer_than_the_retention(post: Post, key: str, settings: Settings) -> None:
    """IDEMPOTENCY_CACHE_MAX_AGE may be longer."""
    settings.IDEMPOTENCY_RETENTION = timedelta(seconds=30)
    settings.IDEMPOTENCY_CACHE_MAX_AGE = timedelta(hours=1)
    lives: list[float] = []
    put = LocMemCache.set

    def noting(self: Any, name: str, value: Any, timeout: Any = None, **kwargs: Any) -> None:
        lives.append(timeout)
        put(self, name, value, timeout, **kwargs)

    with patch.object(LocMemCache, "set", noting):
        post(DOOR, key)
    assert 29 < lives[-1] <= 30


def test_fill_beside_its_marker_is_found() -> None:
    """The same request finds it, and no other."""
    look().fill(RESPONSE, DAY)
    found = look().response
    assert found == RESPONSE
    assert look(fingerprint=b"g" * 32).response is None
    assert look(id=uuid.UUID(int=2)).response is None


def test_late_fill_after_an_expiry_counts_for_nothing() -> None:
    """The marker that it was filled under is gone, or another one is there."""
    late = look()
    assert Replays("default", "default").invalidate([intent().id])
    late.fill(RESPONSE, DAY)
    assert look().response is None
    late.fill(RESPONSE, DAY)
    assert look().response is None


def test_entry_without_its_marker_counts_for_nothing() -> None:
    """A marker that is absent matches no entry."""
    look().fill(RESPONSE, DAY)
    marker, *_ = replay_cache._names("default", intent().id)
    caches["default"].delete(marker)
    assert look().response is None


def restored(*places: int) -> None:
    """The values of these names lose their end in the cache, as if a stranger had restored them."""
    names = [replay_cache._names("default", ONE)[place] for place in places]
    caches["default"].set_many({name: caches["default"].get(name) for name in names}, timeout=None)


@contextmanager
def seconds_later(seconds: float) -> Iterator[None]:
    """Entries and fences inside are read at a later time."""
    now = time.time()
    with patch.object(replay_cache.time, "time", lambda: now + seconds):
        yield


def test_entry_says_itself_until_when() -> None:
    """The end in the entry decides, even if the cache keeps it longer."""
    look().fill(RESPONSE, 30)
    restored(0, 1)
    with seconds_later(29):
        assert look().response == RESPONSE
    with seconds_later(30):
        assert look().response is None


def test_fence_says_itself_until_when(settings: Settings) -> None:
    """Nobody can block a key by restoring an old fence."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    look().fence()
    restored(2)
    with seconds_later(0.5):
        assert look().is_running
    with seconds_later(1):
        assert not look().is_running


def test_fence_does_not_count_beside_an_entry(settings: Settings) -> None:
    """The reply is there already, and is replayed."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    look().fill(RESPONSE, DAY)
    look().fence()
    assert (look().response, look().is_running) == (RESPONSE, False)


def test_entry_of_another_database_is_not_found() -> None:
    """A key may have records in several databases."""
    look().fill(RESPONSE, DAY)
    assert Replays("default", "other").look(intent()).response is None


def test_entry_moved_to_another_place_does_not_verify() -> None:
    """A signature verifies at its own place only."""
    look().fill(RESPONSE, DAY)
    cache = caches["default"]
    names = replay_cache._names("default", intent().id)
    others = replay_cache._names("default", uuid.UUID(int=2))
    for name, other in zip(names[:2], others[:2], strict=True):
        cache.set(other, cache.get(name))
    assert look(id=uuid.UUID(int=2)).response is None


@pytest.mark.parametrize(
    "planted",
    [b"", b"x", b"x" * 200, "text", 7, None, {"status": 200}, pickle.dumps(RESPONSE)],
    ids=["empty", "short", "long", "text", "number", "none", "dict", "pickle"],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_planted_values_are_as_if_they_were_not_there(
    planted: Any, place: int, post: Post, key: str, settings: Settings
) -> None:
    """The database answers instead."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    first = post(DOOR, key)
    record = IdempotencyRecord.objects.get()
    caches["default"].set(replay_cache._names("default", record.pk)[place], planted)
    again = post(DOOR, key)
    assert (again.status_code, again.content) == (201, first.content)
    assert effects.count() == 1


def test_cut_entry_does_not_verify() -> None:
    """An entry with a changed byte does not either."""
    look().fill(RESPONSE, DAY)
    cache, (_, name, _) = caches["default"], replay_cache._names("default", intent().id)
    sealed = cache.get(name)
    for damaged in (sealed[:-1], sealed[:40], sealed[:-1] + b"!"):
        cache.set(name, damaged)
        assert look().response is None


def test_secret_key_may_change_with_a_fallback(settings: Settings) -> None:
    """Without the fallback no old entry verifies."""
    look().fill(RESPONSE, DAY)
    old = settings.SECRET_KEY
    settings.SECRET_KEY = "another-secret"
    assert look().response is None
    settings.SECRET_KEY_FALLBACKS = ["one-more", old]
    assert look().response == RESPONSE


def test_large_response_is_not_put_there(settings: Settings) -> None:
    """Only the database has it."""
    settings.IDEMPOTENCY_CACHE_MAX_BYTES = 300
    look().fill(StoredResponse(200, [], b"x" * 300), DAY)
    assert look().response is None
    look().fill(StoredResponse(200, [], b"x" * 100), DAY)
    assert look().response is not None


def test_response_without_its_body_is_not_put_there(
    post: Post, key: str, settings: Settings
) -> None:
    """The record says that its body was too large."""
    settings.IDEMPOTENCY_MAX_RESPONSE_BYTES = 3
    post(DOOR, key)
    assert post(DOOR, key)["Idempotent-Body"] == "omitted"
    assert post(DOOR, key)["Idempotent-Body"] == "omitted"


class Broken(LocMemCache):
    """A cache that fails while ``is_down``, and counts how often it is asked."""

    asked = 0
    is_down = True

    def get_many(self, *args: Any, **kwargs: Any) -> Any:
        type(self).asked += 1
        if self.is_down:
            raise TimeoutError
        return super().get_many(*args, **kwargs)


@pytest.fixture
def broken(settings: Settings) -> type[Broken]:
    """The cache is down."""
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Broken"}}
    Broken.asked, Broken.is_down = 0, True
    return Broken


def test_cache_that_fails_is_left_alone_for_a_while(
    broken: type[Broken], post: Post, key: str
) -> None:
    """The database answers; one request tries the cache again after the interval."""
    for _ in range(5):
        assert post(DOOR, key).status_code == 201
    assert (broken.asked, effects.count()) == (1, 1)
    with patch.object(replay_cache._breaker("default"), "_open_until", 0.1):
        assert post(DOOR, key).status_code == 201
    assert broken.asked == 2


def test_breaker_is_not_closed_by_what_began_before_the_failure() -> None:
    """That call may have been answered by another server of the same cache."""
    breaker = Breaker()
    began = time.monotonic()
    breaker.failed(60)
    breaker.succeeded(began)
    assert not breaker.allows(60)
    breaker.succeeded(time.monotonic())
    assert breaker.allows(60)


def test_key_that_runs_anew_does_not_ask_a_cache_that_fails(
    broken: type[Broken], post: Post, key: str
) -> None:
    """The request has waited for the cache once already."""
    post(DOOR, key)
    IdempotencyRecord.objects.update(expires_at=UtcNow() - timedelta(seconds=1))
    replay_cache._breaker("default")._open_until = 0.1
    with patch.object(Broken, "delete_many") as removed:
        assert post(DOOR, key).get("Idempotent-Replayed") is None
    assert not removed.called
    assert broken.asked == 2


def test_cache_that_is_back_is_used_again(broken: type[Broken], post: Post, key: str) -> None:
    """Every request uses it again."""
    post(DOOR, key)
    broken.is_down = False
    replay_cache._breaker("default")._open_until = 0.1
    post(DOOR, key)
    with no_sql():
        post(DOOR, key)


def test_joined_transaction_does_not_fill(post: Post, key: str) -> None:
    """The snapshot of that transaction may be older than an expiry."""
    post(DOOR, key)
    caches["default"].clear()
    with transaction.atomic():
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"
    with CaptureQueriesContext(connection) as captured:
        post(DOOR, key)
    assert len(captured) > 0


def test_response_is_not_there_before_its_outer_transaction_has_committed(
    post: Post, key: str
) -> None:
    """No response is replayed whose writes are rolled back."""
    with transaction.atomic():
        assert post(DOOR, key).status_code == 201
        transaction.set_rollback(True)
    assert post(DOOR, key).get("Idempotent-Replayed") is None
    assert Order.objects.count() == 1


def test_fence_sends_duplicates_away_without_sql(post: Post, key: str, settings: Settings) -> None:
    """They get 409 from the cache; another request with the key gets 422 from the database."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    post(DOOR, key)
    record = IdempotencyRecord.objects.get()
    caches["default"].clear()
    running = intent(id=record.pk, fingerprint=bytes(record.fingerprint))
    slot = Slot(Replays("default", "default"), running)
    slot.fence()
    with no_sql():
        refused = post(DOOR, key)
    assert (refused.status_code, refused["Retry-After"]) == (409, "1")
    assert post(DOOR, key, body={"cake": "other"}).status_code == 422
    slot.clear_fence()
    assert post(DOOR, key).status_code == 201


@pytest.mark.parametrize("act", ["order", "crash", "unauthorized"])
def test_fence_is_gone_when_the_view_is_done(
    act: str, post: Post, key: str, settings: Settings
) -> None:
    """Duplicates ask the database again, however the view has ended."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    post(DOOR, key, act=act)
    record = IdempotencyRecord.objects.get()
    same = {"id": record.pk, "fingerprint": bytes(record.fingerprint)}
    assert not look(**same).is_running
