"""How bytes come into a cache and out of it, in as few round trips as it allows.

Over django-redis they go as they are; any other of Django's backends writes and reads them in its
own way, pickled as a rule.
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
    """What the replay cache asks of a cache; each method raises what the backend raises.

    ``life`` is in seconds.
    """

    def look(self, names: Sequence[str], marker: bytes, life: float) -> list[bytes | None]:
        """What lies under these names; under the first, ``marker`` does now, if nothing did."""

    def put(self, name: str, value: bytes, life: float, *, remove: Sequence[str] = ()) -> None:
        """Write one value and remove others."""

    def remove(self, names: Sequence[str]) -> bool:
        """Whether the cache says that nothing lies under the first of these names any more."""


# Not a pipeline: in a cluster redis-py would send again, one by one, what has failed, and wait for
# each. A Redis that is full refuses the marker, and is still read.
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
    """One command a method, and no serialiser: it would unpickle whatever it finds."""

    def __init__(self, cache: Any) -> None:
        self._client = cache.client

    @property
    def _server(self) -> Any:
        # The master, also with Sentinel: what was removed must not be read.
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
    """Any backend of Django's; two round trips where nothing is found."""

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
        # Some backends swallow their errors; what cannot be read back was not removed.
        self._cache.delete_many(list(names[1:]))
        self._cache.set(names[0], b"removed", _MOMENT)
        return bool(self._cache.get(names[0]) == b"removed")


# Long enough to be read back.
_MOMENT = 10


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def is_raw(alias: str) -> bool:
    """Whether the bytes in a cache of the project are read and written as they are."""
    cache: Any = caches[alias]
    if RedisCache is None or not isinstance(cache, RedisCache):
        return False
    # Several servers, one for each key, are no one client.
    return isinstance(cache.client, DefaultClient) and not isinstance(cache.client, ShardClient)


def transport_of(alias: str) -> Transport:
    """The best way to talk to a cache of the project."""
    cache: Any = caches[alias]
    return RedisTransport(cache) if is_raw(alias) else DjangoTransport(cache)


class Breaker:
    """Lets everybody through until something failed; then one caller each ``interval`` seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open_until = 0.0
        self._failed_at = 0.0

    def allows(self, interval: float) -> bool:
        """Whether to try; the one who may after a failure keeps the others away meanwhile."""
        if not self._open_until:
            return True
        with self._lock:
            now = time.monotonic()
            if now < self._open_until:
                return False
            self._open_until = now + interval
            return True

    def failed(self, interval: float) -> None:
        """Keep everybody away for an interval."""
        self._failed_at = time.monotonic()
        self._open_until = self._failed_at + interval

    def succeeded(self, began: float) -> None:
        """Let everybody through, unless something has failed since ``began``, a monotonic time.

        Where it is several servers, what was under way to another one says nothing of that.
        """
        if began >= self._failed_at:
            self._open_until = 0.0
