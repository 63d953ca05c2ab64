"""How bytes are written to a cache and read from it, and when a cache that failed is left alone.

There are as few round trips as the cache allows. django-redis takes the bytes as they are; every
other backend of Django's writes them in its own way, pickled as a rule.
"""

import time
from collections.abc import Sequence
from threading import Lock
from typing import Any, Protocol

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

try:
    from django_redis.cache import RedisCache
    from django_redis.client import DefaultClient, ShardClient
except ImportError:  # an extra
    RedisCache = None


class Transport(Protocol):
    """What the replay cache asks of a cache; it raises what the backend raises. Lives: seconds."""

    def look(self, names: Sequence[str], marker: bytes, life: float) -> list[bytes | None]:
        """The values of these names; ``marker`` is written under the first if it had none."""

    def put(self, name: str, value: bytes, life: float, *, remove: Sequence[str] = ()) -> None:
        """One value is written, and others are removed."""

    def remove(self, names: Sequence[str]) -> bool:
        """The names are removed; whether the cache confirms it for the first of them."""


_READ_BACK_SECONDS = 10

# Not a pipeline: if one failed in a cluster, redis-py would send its commands again one by one, and
# wait for each. A Redis that is full refuses the marker and can still be read.
_LOOK = """
local found = redis.call("MGET", unpack(KEYS))
redis.pcall("SET", KEYS[1], ARGV[1], "NX", "PX", ARGV[2])
return found
"""
_PUT = """
redis.call("DEL", unpack(KEYS, 2))
return redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
"""


class RedisTransport:
    """One command for each method, and no serialiser, which would unpickle whatever it finds."""

    def __init__(self, cache: Any) -> None:
        self._client = cache.client

    @property
    def _server(self) -> Any:
        # The master, also behind Sentinel: a replica may still have what was removed.
        return self._client.get_client(write=True)

    def _keys(self, names: Sequence[str]) -> list[str]:
        return [self._client.make_key(name) for name in names]

    def look(self, names: Sequence[str], marker: bytes, life: float) -> list[bytes | None]:
        arguments = [*self._keys(names), marker, _milliseconds(life)]
        found: list[bytes | None] = self._server.eval(_LOOK, len(names), *arguments)
        return found

    def put(self, name: str, value: bytes, life: float, *, remove: Sequence[str] = ()) -> None:
        if not remove:
            self._server.set(self._client.make_key(name), value, px=_milliseconds(life))
            return
        keys = self._keys([name, *remove])
        self._server.eval(_PUT, len(keys), *keys, value, _milliseconds(life))

    def remove(self, names: Sequence[str]) -> bool:
        self._server.delete(*self._keys(names))
        return True


class DjangoTransport:
    """Any backend of Django's; a look that finds nothing takes two round trips."""

    def __init__(self, cache: BaseCache) -> None:
        self._cache = cache

    def look(self, names: Sequence[str], marker: bytes, life: float) -> list[bytes | None]:
        found = self._cache.get_many(list(names))
        if names[0] not in found:
            self._cache.add(names[0], marker, life)
        values = (found.get(name) for name in names)
        return [value if isinstance(value, bytes) else None for value in values]

    def put(self, name: str, value: bytes, life: float, *, remove: Sequence[str] = ()) -> None:
        self._cache.set(name, value, life)
        if remove:
            self._cache.delete_many(list(remove))

    def remove(self, names: Sequence[str]) -> bool:
        # Some backends swallow their errors: only a value that can be read back was written.
        self._cache.delete_many(list(names[1:]))
        self._cache.set(names[0], b"removed", _READ_BACK_SECONDS)
        return bool(self._cache.get(names[0]) == b"removed")


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def is_raw(alias: str) -> bool:
    """Whether a cache of the project takes bytes as they are."""
    cache: Any = caches[alias]
    if RedisCache is None or not isinstance(cache, RedisCache):
        return False
    # A ShardClient has several servers, and no single client to send a script to.
    return isinstance(cache.client, DefaultClient) and not isinstance(cache.client, ShardClient)


def transport_of(alias: str) -> Transport:
    """The best way to talk to a cache of the project."""
    cache: Any = caches[alias]
    return RedisTransport(cache) if is_raw(alias) else DjangoTransport(cache)


class Breaker:
    """Allows every call until one has failed; then one call each ``interval`` seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open_until = 0.0
        self._failed_at = 0.0

    def allows(self, interval: float) -> bool:
        """Whether to call. After a failure this allows one call, and none beside it."""
        if not self._open_until:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return False
            self._open_until = now + interval
            return True

    def failed(self, interval: float) -> None:
        """No call is allowed for an interval."""
        self._failed_at = time.monotonic()
        self._open_until = self._failed_at + interval

    def succeeded(self, began: float) -> None:
        """Every call is allowed again, unless one has failed since ``began``, a monotonic time.

        A cache may be several servers: a call that was under way to another one says nothing about
        the server that failed.
        """
        if began >= self._failed_at:
            self._open_until = 0.0
