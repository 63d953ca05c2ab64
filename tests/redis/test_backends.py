"""Django's own caches as the replay cache: the same answers, at other costs."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.maintenance.records import expire
from django_idempotency.models import IdempotencyRecord
from django_idempotency.replay_cache import replays as replay_cache
from django_idempotency.replay_cache.transport import DjangoTransport, RedisTransport, transport_of
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.conftest import Post
from tests.unit.replay_cache.test_replays import DAY, RESPONSE, intent, look

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
TABLE = "replays_in_a_table"
DJANGO = "django.core.cache.backends"
BACKENDS = {
    "django-redis": "django_redis.cache.RedisCache",
    "redis": f"{DJANGO}.redis.RedisCache",
    "memory": f"{DJANGO}.locmem.LocMemCache",
    "database": f"{DJANGO}.db.DatabaseCache",
    "file": f"{DJANGO}.filebased.FileBasedCache",
}


@pytest.fixture(params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, settings: Settings, redis: Any, url: str, tmp_path: Any
) -> Iterator[str]:
    """The name of the backend of the cache "default", which is the replay cache."""
    places = {"redis": url, "django-redis": url, "database": TABLE, "file": str(tmp_path / "cache")}
    location = places.get(request.param, "")
    settings.CACHES = {"default": {"BACKEND": BACKENDS[request.param], "LOCATION": location}}
    settings.IDEMPOTENCY_CACHE = "default"
    replay_cache._breaker.cache_clear()
    if request.param == "database":
        call_command("createcachetable", verbosity=0)
    caches["default"].clear()
    yield request.param
    caches["default"].clear()
    if request.param == "database":
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {TABLE}")


def test_bytes_go_through_django_s_backends_in_their_way(backend: str) -> None:
    """Only django-redis reads and writes bytes as they are."""
    expected = RedisTransport if backend == "django-redis" else DjangoTransport
    assert isinstance(transport_of("default"), expected)


def test_replay_comes_from_the_cache_until_the_key_is_expired(
    backend: str, post: Post, key: str
) -> None:
    """No statement reads the records; a database cache takes one SELECT of its own table."""
    first = post(DOOR, key)
    with CaptureQueriesContext(connection) as captured:
        assert post(DOOR, key).content == first.content
    texts = [query["sql"] for query in captured]
    assert not any("idempotencyrecord" in text for text in texts)
    assert len(texts) == (backend == "database")
    assert expire(Upkeep("default"), [IdempotencyRecord.objects.get().pk]).is_invalidated
    again = post(DOOR, key)
    assert again.get("Idempotent-Replayed") is None
    assert post(DOOR, key)["Idempotent-Replayed"] == "true"
    assert effects.count() == 2


def test_late_fill_after_an_expiry_counts_for_nothing(backend: str) -> None:
    """The marker that it was filled under is gone, in every backend."""
    late = look()
    assert late.replays.invalidate([intent().id])
    late.fill(RESPONSE, DAY)
    assert look().response is None
    caches["default"].clear()
    look().fill(RESPONSE, DAY)
    assert look().response == RESPONSE
    late.fill(RESPONSE, DAY)
    assert look().response is None


def test_fence_is_seen_and_taken_away(backend: str, settings: Settings) -> None:
    """A duplicate of a running request gets 409 until the owner has filled the cache."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    slot = look()
    slot.fence()
    # A database cache cuts off the fraction of the second in which an entry ends.
    assert look().is_running or backend == "database"
    slot.fill(RESPONSE, DAY)
    assert not look().is_running
    assert look().response == RESPONSE
