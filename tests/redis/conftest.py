"""A Valkey of the tests' own, or the server of ``IDEMPOTENCY_TEST_REDIS``, as the replay cache."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

import pytest
from pytest_django import Settings

from django_idempotency.replay_cache import replays as replay_cache
from tests import settings as suite
from tests.support.servers import REDIS_VARIABLE, ServerUnavailableError, Valkey

# Without django-redis there is nothing to test, and nothing to import.
collect_ignore_glob = [] if find_spec("django_redis") else ["test_*.py"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder need a running server."""
    item.add_marker(pytest.mark.redis)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A running server that a test may freeze and crash; it loses its content then."""
    try:
        with Valkey() as server:
            yield server
    except ServerUnavailableError as error:
        pytest.skip(f"Valkey cannot be had: {error}")


@pytest.fixture(scope="session")
def url(request: pytest.FixtureRequest) -> str:
    """The server of the environment, or the tests' own."""
    return suite.REDIS or str(request.getfixturevalue("valkey").url)


@pytest.fixture
def redis_port(url: str) -> int:
    """The port on which the server listens."""
    return urlsplit(url).port or 6379


@pytest.fixture
def redis(url: str) -> Iterator[Any]:
    """A client of the test's own; the server is empty."""
    from redis import Redis

    with Redis.from_url(url) as client:
        client.flushdb()
        yield client


def use(settings: Settings, url: str) -> None:
    """This process has its replay cache on that server."""
    settings.CACHES = settings.CACHES | {"redis": suite.redis_cache(url)}
    settings.IDEMPOTENCY_CACHE = "redis"
    replay_cache._breaker.cache_clear()


@pytest.fixture
def cached(settings: Settings, redis: Any, url: str) -> None:
    """Replays are cached, and the cache is empty."""
    use(settings, url)


@pytest.fixture
def cached_in_processes(monkeypatch: pytest.MonkeyPatch, redis: Any, url: str) -> None:
    """The processes that a test starts cache replays, too."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{__package__}.settings")
    monkeypatch.setenv(REDIS_VARIABLE, url)
