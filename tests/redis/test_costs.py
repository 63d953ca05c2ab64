"""What a request costs with the replay cache: statements, round trips and commands."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.cache import caches
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.maintenance.records import expire
from django_idempotency.models import IdempotencyRecord, UtcNow
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.concurrency.owners import send, stopped_before
from tests.conftest import Post
from tests.support.live import gunicorn
from tests.support.servers import REDIS_VARIABLE

from .conftest import use
from .relay import Relay, relay

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
#: One command each; Redis also counts those that a script runs.
LOOK = "eval mget set"
FILL = FENCE = "set"
FENCED_FILL = "eval del set"
FORGET = CLEAR = "del"

#: The commands of the counting itself.
OURS = {"config|resetstat", "info"}


@pytest.fixture
def between(settings: Settings, redis: Any, redis_port: int) -> Iterator[Relay]:
    """The replay cache behind a relay that counts; the connection is open already."""
    with relay(redis_port) as counting:
        use(settings, f"redis://127.0.0.1:{counting.port}/0")
        caches["redis"].get("warm")
        yield counting


@contextmanager
def costs(between: Relay, redis: Any, *trips: str, sql: bool) -> Iterator[None]:
    """One round trip with these commands for each of ``trips``, and SQL only if ``sql``."""
    redis.config_resetstat()
    between.trips = 0
    with CaptureQueriesContext(connection) as captured:
        yield
    stats = redis.info("commandstats")
    asked = {name.removeprefix("cmdstat_"): told["calls"] for name, told in stats.items()}
    assert {name: asked[name] for name in asked.keys() - OURS} == Counter(" ".join(trips).split())
    assert between.trips == len(trips)
    assert (len(captured) > 0) is sql


def test_cached_replay_is_one_round_trip_and_no_statement(
    between: Relay, redis: Any, post: Post, key: str
) -> None:
    """The second request gets what the first has put into the cache."""
    with costs(between, redis, LOOK, FILL, sql=True):
        assert post(DOOR, key).status_code == 201
    with costs(between, redis, LOOK, sql=False):
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"
    redis.flushdb()
    with costs(between, redis, LOOK, FILL, sql=True):
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"
    with costs(between, redis, LOOK, sql=False):
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("act", ["unauthorized", "crash"])
def test_request_without_an_outcome_only_looks(
    act: str, between: Relay, redis: Any, post: Post, key: str
) -> None:
    """There is no response to put into the cache."""
    with costs(between, redis, LOOK, sql=True):
        post(DOOR, key, act=act)


def test_other_request_with_the_key_only_looks(
    between: Relay, redis: Any, post: Post, key: str
) -> None:
    """The database refuses it."""
    post(DOOR, key)
    with costs(between, redis, LOOK, sql=True):
        assert post(DOOR, key, body={"cake": "other"}).status_code == 422


def test_request_without_a_key_does_not_look(between: Relay, redis: Any, post: Post) -> None:
    """A view that is not covered does not look either."""
    with costs(between, redis, sql=True):
        assert post(DOOR).status_code == 201
        assert post("/bare/", "a-key-that-nobody-reads").status_code == 201


def test_expiry_is_one_round_trip_a_record(
    between: Relay, redis: Any, post: Post, key: str
) -> None:
    """The next request with the key removes the rest of its last life from the cache."""
    post(DOOR, key)
    record = IdempotencyRecord.objects.get()
    with costs(between, redis, FORGET, sql=True):
        assert expire(Upkeep("default"), [record.pk]).is_invalidated
    with costs(between, redis, LOOK, FORGET, FILL, sql=True):
        assert post(DOOR, key).get("Idempotent-Replayed") is None


def test_first_request_after_the_retention_removes_what_is_left(
    between: Relay, redis: Any, post: Post, key: str, settings: Settings
) -> None:
    """It removes the old entry first, and then puts up a fence."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    post(DOOR, key)
    redis.flushdb()
    IdempotencyRecord.objects.update(expires_at=UtcNow())
    with costs(between, redis, LOOK, FORGET, FENCE, FENCED_FILL, sql=True):
        assert post(DOOR, key).get("Idempotent-Replayed") is None


def test_fence_costs_the_first_request_a_round_trip(
    between: Relay, redis: Any, post: Post, key: str, settings: Settings
) -> None:
    """A replay costs no more than without fences."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    with costs(between, redis, LOOK, FENCE, FENCED_FILL, sql=True):
        assert post(DOOR, key).status_code == 201
    with costs(between, redis, LOOK, sql=False):
        assert post(DOOR, key)["Idempotent-Replayed"] == "true"


def test_fence_is_taken_away_where_there_is_no_outcome(
    between: Relay, redis: Any, post: Post, key: str, settings: Settings
) -> None:
    """That takes one more round trip."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    with costs(between, redis, LOOK, FENCE, CLEAR, sql=True):
        assert post(DOOR, key, act="unauthorized").status_code == 401


@pytest.mark.parametrize("inflight", [False, True], ids=["no fence", "fence"])
def test_duplicate_of_a_running_request_looks_once(
    inflight: bool,
    between: Relay,
    redis: Any,
    key: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database refuses it, or the fence does."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = inflight
    with (
        stopped_before(monkeypatch, "begin", DOOR, key),
        costs(between, redis, LOOK, sql=not inflight),
    ):
        assert send(DOOR, key).status_code == 409


def test_fence_that_is_over_is_put_up_again(
    between: Relay, redis: Any, key: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first duplicate that the database refuses puts it up."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    with stopped_before(monkeypatch, "begin", DOOR, key):
        redis.flushdb()
        with costs(between, redis, LOOK, FENCE, sql=True):
            assert send(DOOR, key).status_code == 409
        with costs(between, redis, LOOK, sql=False):
            assert send(DOOR, key).status_code == 409


def post_to(address: str, key: str) -> tuple[int, bool]:
    """The status of the reply, and whether it was a replay."""
    caller = HTTPConnection(urlsplit(address).netloc, timeout=30)
    caller.request("POST", "/exempt/", b"{}", {"Idempotency-Key": key})
    response = caller.getresponse()
    response.read()
    caller.close()
    return response.status, response.headers.get("Idempotent-Replayed") == "true"


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite's statements are on no wire")
def test_worker_sends_the_database_nothing_for_a_cached_replay(
    cached_in_processes: None,
    redis_port: int,
    key: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """100 replays by gunicorn take 100 round trips to Redis, and none to the database."""
    port = int(connections["default"].settings_dict["PORT"])
    with relay(port) as database, relay(redis_port) as cache:
        monkeypatch.setenv("IDEMPOTENCY_TEST_DATABASE_PORT", str(database.port))
        monkeypatch.setenv(REDIS_VARIABLE, f"redis://127.0.0.1:{cache.port}/0")
        with gunicorn(tmp_path, workers=1, threads=1) as address:
            # The first request opens the connections.
            assert post_to(address, key) == (201, False)
            database.trips = cache.trips = 0
            assert [post_to(address, key) for _ in range(100)] == [(201, True)] * 100
            assert (database.trips, cache.trips) == (0, 100)
            database.close()
            assert post_to(address, key) == (201, True)
    assert effects.count() == 1


def test_entry_lives_in_redis_no_longer_than_it_says(
    cached: None, redis: Any, post: Post, key: str, settings: Settings
) -> None:
    """Marker and entry end by themselves, and nothing else is written."""
    settings.IDEMPOTENCY_CACHE_MAX_AGE = timedelta(seconds=20)
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    post(DOOR, key)
    names = redis.keys()
    assert sorted(name[-2:] for name in names) == [b":e", b":m"]
    assert all(15_000 < redis.pttl(name) <= 20_000 for name in names)
