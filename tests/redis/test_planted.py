"""A stranger writes to Redis: planted values count as absent."""

import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.cache import caches
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.http.keys import record_id
from django_idempotency.maintenance.records import expire
from django_idempotency.models import IdempotencyRecord
from django_idempotency.replay_cache import replays as replay_cache
from django_idempotency.replay_cache.entries import seal
from django_idempotency.replay_cache.replays import Replays, Slot
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.conftest import Post

from .bombs import bomb

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("cached"),
]

DOOR = "/function/"
#: The marker, the entry and the fence of a record.
PLACES = {"marker": b":m", "entry": b":e", "fence": b":f"}


def name_of(place: str, record: uuid.UUID) -> bytes:
    """The key in Redis."""
    suffix = PLACES[place].decode()
    return f":1:idempotency:{{default:{record.hex}}}{suffix}".encode()


def completed(post: Post, key: str) -> tuple[Any, IdempotencyRecord]:
    """The first reply, and its record."""
    first = post(DOOR, key)
    assert first.status_code == 201
    return first, IdempotencyRecord.objects.get(key=key)


def statements(post: Post, key: str) -> tuple[Any, int]:
    """A reply, and how many statements it took."""
    with CaptureQueriesContext(connection) as captured:
        reply = post(DOOR, key)
    return reply, len(captured)


def forged(record: IdempotencyRecord, marker: bytes) -> bytes:
    """A reply that no view gave, signed with a guessed key."""
    with override_settings(SECRET_KEY="a guess"):
        content = marker + bytes(record.fingerprint) + b"\0" * 12
        return seal(f"e:default:{record.pk.hex}", content)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "planted", ["nothing", "text", "zeros", "bomb", "forged", "half", "flipped", "list"]
)
def test_planted_value_changes_no_reply(
    planted: str,
    place: str,
    post: Post,
    key: str,
    redis: Any,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """The database answers; neither the view nor the planted value is run."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    first, record = completed(post, key)
    name = name_of(place, record.pk)
    good = redis.get(name) or redis.get(name_of("entry", record.pk))
    values = {
        "nothing": b"",
        "text": b"yours sincerely",
        "zeros": bytes(200),
        "bomb": bomb(tmp_path / "boom"),
        "forged": forged(record, redis.get(name_of("marker", record.pk))),
        "half": good[: len(good) // 2],
        "flipped": bytes([good[0] ^ 1]) + good[1:],
    }
    redis.delete(name)
    if planted == "list":
        redis.rpush(name, b"a value of another type")
    else:
        redis.set(name, values[planted])
    again = post(DOOR, key)
    assert (again.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert effects.count() == 1
    assert not (tmp_path / "boom").exists()


def test_bomb_goes_off_where_a_backend_unpickles(
    post: Post, key: str, redis: Any, url: str, settings: Settings, tmp_path: Path
) -> None:
    """W012 warns of Django's own backend. This also shows that the bombs above work."""
    backend = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = settings.CACHES | {"redis": {"BACKEND": backend, "LOCATION": url}}
    _, record = completed(post, key)
    redis.set(name_of("entry", record.pk), bomb(tmp_path / "boom"))
    assert post(DOOR, key)["Idempotent-Replayed"] == "true"
    assert (tmp_path / "boom").exists()


def test_reply_moved_to_another_key_is_not_found(post: Post, redis: Any) -> None:
    """A signature verifies at one place only, even with the marker beside it."""
    _, mine = completed(post, "key-of-the-one-0001")
    other, theirs = completed(post, "key-of-the-other-01")
    for place in ("marker", "entry"):
        redis.set(name_of(place, theirs.pk), redis.get(name_of(place, mine.pk)))
    again, count = statements(post, "key-of-the-other-01")
    assert again.content == other.content
    assert count > 0


def test_reply_of_another_scope_is_not_found(post: Post, key: str, redis: Any) -> None:
    """Another caller with the same key and the same request does not get it."""
    first = post(DOOR, key, authorization="Bearer of-the-one")
    record = IdempotencyRecord.objects.get()
    other = post(DOOR, key, authorization="Bearer of-the-other")
    theirs = IdempotencyRecord.objects.exclude(pk=record.pk).get()
    assert first.content != other.content
    for place in ("marker", "entry"):
        redis.set(name_of(place, theirs.pk), redis.get(name_of(place, record.pk)))
    assert post(DOOR, key, authorization="Bearer of-the-other").content == other.content


def test_entry_restored_after_an_expiry_is_not_found(post: Post, key: str, redis: Any) -> None:
    """The marker that it was filled under is gone."""
    first, record = completed(post, key)
    name = name_of("entry", record.pk)
    entry = redis.get(name)
    assert expire(Upkeep("default"), [record.pk]).is_invalidated
    redis.set(name, entry)
    again = post(DOOR, key)
    assert again.get("Idempotent-Replayed") is None
    redis.set(name, entry)
    assert post(DOOR, key).content == again.content != first.content
    assert effects.count() == 2


def test_restored_with_its_marker_it_ends_as_it_said(
    post: Post, key: str, redis: Any, settings: Settings
) -> None:
    """A stranger who can write to Redis can undo an expiry, until the end that the entry contains.
    In Redis these two never expire.
    """
    settings.IDEMPOTENCY_CACHE_MAX_AGE = timedelta(seconds=30)
    first, record = completed(post, key)
    names = [name_of(place, record.pk) for place in ("marker", "entry")]
    pair = dict(zip(names, redis.mget(names), strict=True))
    assert expire(Upkeep("default"), [record.pk]).is_invalidated
    redis.mset(pair)
    assert post(DOOR, key).content == first.content
    now = time.time()
    with patch.object(replay_cache.time, "time", lambda: now + 30):
        assert post(DOOR, key).get("Idempotent-Replayed") is None
    assert effects.count() == 2


def test_fence_that_was_kept_sends_nobody_away(
    post: Post, key: str, redis: Any, settings: Settings
) -> None:
    """A fence contains its end, too: nobody can block a key by writing an old one again."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    post(DOOR, key, act="unauthorized")
    record = IdempotencyRecord.objects.get()
    replays = Replays("redis", "default")
    intent = replay_cache.Intent(
        record.pk, record.scope, key, bytes(record.fingerprint), record.method, record.path
    )
    Slot(replays, intent).fence()
    name = name_of("fence", record.pk)
    kept = redis.get(name)
    assert post(DOOR, key, act="unauthorized").status_code == 409
    redis.set(name, kept)
    now = time.time()
    with patch.object(replay_cache.time, "time", lambda: now + 1):
        assert post(DOOR, key, act="unauthorized").status_code == 401


def test_whole_server_of_strangers_entries_is_harmless(
    post: Post, redis: Any, tmp_path: Path
) -> None:
    """Every name of every key has a planted value; without them the cache works again."""
    keys = [f"key-of-nobody-{number:04}" for number in range(20)]
    for key in keys:
        for place in PLACES:
            redis.set(name_of(place, record_id("anonymous", key)), bomb(tmp_path / "boom"))
    replies = [[post(DOOR, key) for _ in range(3)] for key in keys]
    assert all(len({reply.content for reply in three}) == 1 for three in replies)
    assert effects.count() == 20
    assert not (tmp_path / "boom").exists()
    redis.flushdb()
    post(DOOR, keys[0])
    assert statements(post, keys[0])[1] == 0
    assert caches["redis"].client.get_client(write=True).dbsize() == 2
