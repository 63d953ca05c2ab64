"""System checks of the replay cache: who shares it, what it unpickles, how long it may hang."""

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from .. import conf
from ..replay_cache.transport import is_raw

_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")


def _settings_of(alias: str) -> dict[str, Any]:
    found: dict[str, Any] = settings.CACHES.get(alias, {})
    return found


def _backend() -> str:
    return str(_settings_of(conf.cache_alias()).get("BACKEND", ""))


@register(Tags.caches, deploy=True)
def check_sharing(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W011: who lets a record expire reaches every process's entry of it."""
    if _backend().endswith((".LocMemCache", ".DummyCache")):
        yield Warning(
            "IDEMPOTENCY_CACHE is a cache that each process has for itself.",
            hint="What is expired in one process is replayed by the others for as long as"
            " IDEMPOTENCY_CACHE_MAX_AGE. Use a cache that they share: Redis, through django-redis.",
            id="django_idempotency.W011",
        )


@register(Tags.security, deploy=True)
def check_pickles(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W012: who may write to the cache's server cannot run code here."""
    alias = conf.cache_alias()
    is_own = _backend().endswith((".LocMemCache", ".DummyCache"))
    if alias in settings.CACHES and not is_own and not is_raw(alias):
        yield Warning(
            f"The backend of IDEMPOTENCY_CACHE ({_backend()}) unpickles what it finds.",
            hint="Through django-redis the entries are read as bytes, and verified before use.",
            id="django_idempotency.W012",
        )


def _given(alias: str) -> set[str]:
    """The time-outs that a Redis cache's settings name, in whichever of its places."""
    found = _settings_of(alias)
    options = found.get("OPTIONS", {})
    pool = options.get("CONNECTION_POOL_KWARGS", {})
    locations = found.get("LOCATION", "")
    first = locations if isinstance(locations, str) else next(iter(locations), "")
    names = {*options, *pool, *parse_qs(urlsplit(str(first)).query)}
    return {str(name).lower() for name in names}


@register(Tags.caches)
def check_timeouts(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W013: a Redis that hangs does not hang the requests."""
    alias = conf.cache_alias()
    if alias not in settings.CACHES or not is_raw(alias):
        return
    missing = [name for name in _TIMEOUTS if name not in _given(alias)]
    if missing:
        yield Warning(
            f"The cache {alias!r} of IDEMPOTENCY_CACHE sets no {' and no '.join(missing)}.",
            hint='OPTIONS = {"SOCKET_CONNECT_TIMEOUT": 0.1, "SOCKET_TIMEOUT": 0.1}: so long may a'
            " request wait for a server that hangs.",
            id="django_idempotency.W013",
        )
