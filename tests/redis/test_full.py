"""A Redis without room: the database replays what it has dropped or not accepted."""

import uuid
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.replay_cache import replays as replay_cache
from tests.app import effects
from tests.concurrency.owners import send
from tests.support.servers import ServerUnavailableError, Valkey

from .conftest import use

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
MANY = 300


@pytest.fixture
def small(settings: Settings) -> Iterator[Valkey]:
    """A server that has room for some entries only."""
    try:
        with Valkey() as server:
            room = int(server.info("memory")["used_memory"]) + 200_000
            server.ask("CONFIG", "SET", "maxmemory", str(room))
            use(settings, server.url)
            yield server
    except ServerUnavailableError as error:
        pytest.skip(f"Valkey cannot be had: {error}")


def is_cached(key: str) -> bool:
    """Whether a repeated request needs no statement."""
    with CaptureQueriesContext(connection) as captured:
        assert send(DOOR, key)["Idempotent-Replayed"] == "true"
    return not captured


def test_server_that_drops_the_oldest_has_the_newest(small: Valkey) -> None:
    """Under ``allkeys-lru``, which is not exact, a marker or an entry that is gone is a miss."""
    small.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    keys = [uuid.uuid4().hex for _ in range(MANY)]
    first = {key: send(DOOR, key).content for key in keys}
    assert int(small.info("stats")["evicted_keys"]) > 0
    assert any(map(is_cached, reversed(keys[-20:])))
    assert {key: send(DOOR, key).content for key in keys} == first
    assert effects.count() == MANY


def test_full_server_that_drops_nothing_is_left_alone_for_a_while(small: Valkey) -> None:
    """Under ``noeviction`` the database answers; later the server still has the older entries."""
    small.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    early = uuid.uuid4().hex
    send(DOOR, early)
    keys = [uuid.uuid4().hex for _ in range(MANY)]
    first = {key: send(DOOR, key).content for key in keys}
    refused = small.info("errorstats")["errorstat_OOM"]
    assert int(refused.removeprefix("count=")) > 0
    assert {key: send(DOOR, key).content for key in keys} == first
    assert effects.count() == MANY + 1
    assert not is_cached(keys[-1])
    replay_cache._breaker.cache_clear()
    assert is_cached(early)
