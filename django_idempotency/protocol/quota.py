"""How many new keys a caller may use: counted in Django's cache, never in the table.

A count is made before a new key is claimed and taken back if the claim fails. It belongs to one
window as long as the retention; a cache that forgets, or is not there, lets requests through.
"""

import hashlib
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.core.cache import caches

from .. import conf
from ..exceptions import QuotaExceededError
from ..policy import Policy

logger = logging.getLogger("django_idempotency")


class _Counter:
    """The number of keys that one caller has used in this window."""

    def __init__(self, scope: str, policy: Policy) -> None:
        seconds = policy.retention.total_seconds()
        window = int(time.time() // seconds)
        # A scope may hold personal data, or characters that memcached refuses in a key.
        caller = hashlib.sha256(scope.encode()).hexdigest()
        self._key = f"django_idempotency:quota:{caller}:{seconds:g}:{window}"
        self._life = math.ceil(seconds)

    def up(self) -> int | None:
        """Count one key more; the number, or None where the cache does not answer."""
        try:
            cache = caches[conf.quota_cache()]
            cache.add(self._key, 0, self._life)
            return int(cache.incr(self._key))
        except Exception:
            logger.exception("the quota's cache does not count, so every key is let through")
            return None

    def down(self) -> None:
        """Count one key less, if the cache answers."""
        try:
            caches[conf.quota_cache()].decr(self._key)
        except Exception:
            logger.exception("the quota's cache keeps a count too many")


class Place:
    """Room for one new key, given back unless the claim says that it was taken."""

    taken = False


@contextmanager
def place(scope: str, policy: Policy, *, is_new: bool = True) -> Iterator[Place]:
    """Room for one more key of this caller, which a key that is not new does not take.

    The cache gives each number to one request only, so no more than the limit get through. A
    request that is refused counts for a moment. Raises QuotaExceededError.
    """
    room, limit = Place(), policy.max_keys_per_scope
    if limit is None or not is_new:
        yield room
        return
    counter = _Counter(scope, policy)
    count = counter.up()
    try:
        if count is not None and count > limit:
            raise QuotaExceededError
        yield room
    finally:
        if count is not None and not room.taken:
            counter.down()
