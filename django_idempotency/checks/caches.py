"""System checks of the replay cache: sharing, unpickling and time-outs."""

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning

from .. import conf
from ..replay_cache.transport import is_raw
from .settings import check

_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")


def _settings_of(alias: str) -> dict[str, Any]:
    found: dict[str, Any] = settings.CACHES.get(alias, {})
    return found


def _backend(alias: str) -> str:
    return str(_settings_of(alias).get("BACKEND", ""))


def is_of_one_process(alias: str) -> bool:
    """Whether each process has such a cache for itself."""
    return _backend(alias).endswith((".LocMemCache", ".DummyCache"))


@check(Tags.caches, deploy=True)
def check_sharing(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W011: when a record is expired, every process loses its entry of it."""
    if is_of_one_process(conf.cache_alias()):
        yield Warning(
            "IDEMPOTENCY_CACHE is a cache that each process has for itself.",
            hint="What is expired in one process is replayed by the others for as long as"
            " IDEMPOTENCY_CACHE_MAX_AGE. Use a cache that they share: Redis, through django-redis.",
            id="django_idempotency.W011",
        )


@check(Tags.security, deploy=True)
def check_pickles(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W012: write access to the cache's server is not enough to run code here."""
    alias = conf.cache_alias()
    if alias and not is_of_one_process(alias) and not is_raw(alias):
        yield Warning(
            f"The backend of IDEMPOTENCY_CACHE ({_backend(alias)}) unpickles what it finds.",
            hint="Through django-redis the entries are read as bytes, and verified before use.",
            id="django_idempotency.W012",
        )


def _given(alias: str) -> Collection[str]:
    """The names of all options of a Redis cache, from each place where a time-out may stand."""
    found = _settings_of(alias)
    options = found.get("OPTIONS") or {}
    pool = options.get("CONNECTION_POOL_KWARGS") or {}
    locations = found.get("LOCATION") or ""
    first = locations if isinstance(locations, str) else next(iter(locations), "")
    names = {*options, *pool, *parse_qs(urlsplit(str(first)).query)}
    return {str(name).lower() for name in names}


@check(Tags.caches)
def check_timeouts(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W013: requests do not wait for ever for a Redis that hangs."""
    alias = conf.cache_alias()
    given = _given(alias) if alias and is_raw(alias) else _TIMEOUTS
    if missing := [name for name in _TIMEOUTS if name not in given]:
        yield Warning(
            f"The cache {alias!r} of IDEMPOTENCY_CACHE sets no {' and no '.join(missing)}.",
            hint='OPTIONS = {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1}: so long may a'
            " request wait for a server that hangs.",
            id="django_idempotency.W013",
        )
