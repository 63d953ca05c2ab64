"""What ``manage.py check`` says of the replay cache."""

from typing import Any

import pytest
from django.core.checks import run_checks
from pytest_django import Settings

pytestmark = [pytest.mark.once, pytest.mark.django_redis]

REDIS = "django_redis.cache.RedisCache"
URL = "redis://127.0.0.1:6379/0"
TIMEOUTS = {"SOCKET_TIMEOUT": 0.1, "SOCKET_CONNECT_TIMEOUT": 0.1}
POOL = {"CONNECTION_POOL_KWARGS": {"socket_timeout": 1, "socket_connect_timeout": 1}}


def found(settings: Settings, **cache: Any) -> list[str]:
    """The ids of what is wrong with such a cache, in a deployment."""
    settings.CACHES = {"default": cache}
    settings.IDEMPOTENCY_CACHE = "default"
    messages = run_checks(include_deployment_checks=True)
    parts = (str(message.id).partition(".") for message in messages)
    ours = {number for app, _, number in parts if app == "django_idempotency"}
    return sorted(ours & {"E001", "W011", "W012", "W013"})


@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "dummy.DummyCache"])
def test_cache_of_one_process_draws_a_warning(settings: Settings, backend: str) -> None:
    """W011: an expiry does not reach the others'."""
    assert found(settings, BACKEND=f"django.core.cache.backends.{backend}") == ["W011"]


@pytest.mark.parametrize("backend", ["redis.RedisCache", "db.DatabaseCache"])
def test_cache_that_unpickles_draws_a_warning(settings: Settings, backend: str) -> None:
    """W012: Django's own backends do."""
    cache = {"BACKEND": f"django.core.cache.backends.{backend}", "LOCATION": URL}
    assert found(settings, **cache) == ["W012"]


@pytest.mark.parametrize(
    ("options", "location", "expected"),
    [
        ({}, URL, ["W013"]),
        ({"SOCKET_TIMEOUT": 0.1}, URL, ["W013"]),
        (TIMEOUTS, URL, []),
        (POOL, [URL], []),
        ({}, f"{URL}?socket_timeout=1&socket_connect_timeout=1", []),
    ],
    ids=["none", "one", "options", "pool", "url"],
)
def test_redis_that_may_hang_draws_a_warning(
    settings: Settings, options: Any, location: Any, expected: list[str]
) -> None:
    """W013: a request waits as long as it does."""
    assert found(settings, BACKEND=REDIS, LOCATION=location, OPTIONS=options) == expected


def test_unknown_alias_is_an_error(settings: Settings) -> None:
    """E001."""
    settings.IDEMPOTENCY_CACHE = "nowhere"
    ids = {message.id for message in run_checks(include_deployment_checks=True)}
    assert "django_idempotency.E001" in ids
