"""Completed records in a cache, in front of the database, which stays the only truth.

An entry counts only while the marker that it was filled under is there. A marker is random, and is
written before its request looks into the database. After a record has expired, its marker is
removed. So a late fill finds no marker, or another one, and never counts. Everything is signed for
its place only. An entry ends with the retention, after ``IDEMPOTENCY_CACHE_MAX_AGE`` at the latest,
and contains its end: to write an old one again does not prolong it.
"""

import logging
import os
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from .. import conf
from ..storage.values import Intent, StoredResponse
from .entries import is_fenced, packed_entry, packed_fence, seal, unpacked_entry, unseal
from .transport import Breaker, Transport, transport_of

logger = logging.getLogger("django_idempotency.cache")

T = TypeVar("T")

_MARKER_BYTES = 16
# For so long at most the fence of a killed worker makes duplicates get 409.
_FENCE_SECONDS = 1.0


@cache
def _breaker(alias: str) -> Breaker:
    return Breaker()


if hasattr(os, "register_at_fork"):
    # A fork may have copied the lock of a breaker while a thread held it.
    os.register_at_fork(after_in_child=_breaker.cache_clear)


def _names(using: str, record: uuid.UUID) -> tuple[str, str, str]:
    """Where the marker, the entry and the fence of a record lie: in one slot of a cluster."""
    tag = f"idempotency:{{{using}:{record.hex}}}"
    return f"{tag}:m", f"{tag}:e", f"{tag}:f"


@dataclass(frozen=True, slots=True)
class Slot:
    """What the cache knows of one request, and where the response is put.

    ``response`` is the reply that is there already; ``is_running`` says that a fence of the same
    request is.
    """

    replays: "Replays"
    intent: Intent
    marker: bytes | None = None
    response: StoredResponse | None = None
    is_running: bool = False
    looked_at: float = field(default_factory=time.monotonic)

    @property
    def _names(self) -> tuple[str, str, str]:
        return _names(self.replays.using, self.intent.id)

    def fill(self, response: StoredResponse | None, seconds: float) -> None:
        """A committed response is in the cache for so many seconds, counted from the look.

        Without a response, or where it has no body or is too large, only the fence is removed.
        """
        life = min(seconds, conf.cache_max_age().total_seconds())
        life -= time.monotonic() - self.looked_at
        if self.marker and response and response.body is not None and life > 0:
            content = packed_entry(self.marker, self.intent, response, life)
            if len(content) <= conf.cache_max_bytes():
                self._put(content, life)
                return
        self.clear_fence()

    def _put(self, content: bytes, life: float) -> None:
        _, entry, fence = self._names
        sealed = seal(entry, content)
        remove = [fence] if conf.cache_inflight() else []
        self.replays.ask("filled", lambda cache: cache.put(entry, sealed, life, remove=remove))

    def fence(self) -> None:
        """Duplicates get 409 from the cache, for a moment."""
        if conf.cache_inflight():
            fence = self._names[2]
            sealed = seal(fence, packed_fence(self.intent, _FENCE_SECONDS))
            self.replays.ask("filled", lambda cache: cache.put(fence, sealed, _FENCE_SECONDS))

    def invalidate(self) -> None:
        """Nothing that was put there before counts any more, if the cache answers at all."""
        self.replays.ask("cleared", lambda cache: cache.remove(self._names))

    def clear_fence(self) -> None:
        """Duplicates ask the database again."""
        if conf.cache_inflight():
            self.replays.ask("cleared", lambda cache: cache.remove(self._names[2:]))


class Replays:
    """The replay cache for the records of one database."""

    def __init__(self, alias: str, using: str) -> None:
        self._alias = alias
        self.using = using
        self._breaker = _breaker(alias)

    def look(self, intent: Intent) -> Slot:
        """What the cache has for this request; a slot that takes nothing if the cache fails."""
        names = _names(self.using, intent.id)
        asked = names if conf.cache_inflight() else names[:2]
        own, life = secrets.token_bytes(_MARKER_BYTES), conf.cache_max_age().total_seconds()
        found = self.ask("read", lambda cache: cache.look(asked, own, life))
        if found is None:
            return Slot(self, intent)
        marker, entry, *fence = found
        response = self._response(intent, marker, entry)
        is_running = response is None and self._is_running(intent, fence)
        # Where there was none, this request's own is there now.
        marker = own if marker is None else marker
        is_marker = len(marker) == _MARKER_BYTES
        return Slot(self, intent, marker if is_marker else None, response, is_running)

    def _response(
        self, intent: Intent, marker: bytes | None, entry: bytes | None
    ) -> StoredResponse | None:
        if marker is None or entry is None or len(marker) != _MARKER_BYTES:
            return None
        content = unseal(_names(self.using, intent.id)[1], entry)
        return unpacked_entry(content, marker, intent) if content else None

    def _is_running(self, intent: Intent, fence: list[bytes | None]) -> bool:
        sealed = fence[0] if fence else None
        content = unseal(_names(self.using, intent.id)[2], sealed) if sealed else None
        return content is not None and is_fenced(content, intent)

    def invalidate(self, records: Iterable[uuid.UUID]) -> bool:
        """Entries of these records count no more, if True: the cache has confirmed it.

        Otherwise they may be replayed until their ``IDEMPOTENCY_CACHE_MAX_AGE`` is over. The cache
        is asked even while the breaker is open.
        """
        names = [_names(self.using, record) for record in records]
        removed = self._answer("cleared", lambda cache: [cache.remove(each) for each in names])
        return removed is not None and all(removed)

    def ask(self, what: str, question: Callable[[Transport], T]) -> T | None:
        """What the cache answers; None where it fails, or the breaker is open."""
        if not self._breaker.allows(conf.cache_retry().total_seconds()):
            return None
        return self._answer(what, question)

    def _answer(self, what: str, question: Callable[[Transport], T]) -> T | None:
        began = time.monotonic()
        try:
            answer = question(transport_of(self._alias))
        except Exception:
            interval = conf.cache_retry()
            self._breaker.failed(interval.total_seconds())
            text = "the replay cache cannot be %s; it is left alone for %s"
            logger.warning(text, what, interval, exc_info=True)
            return None
        self._breaker.succeeded(began)
        return answer


def replays(using: str) -> Replays | None:
    """The replay cache for a database's records, if the project has one."""
    alias = conf.cache_alias()
    return Replays(alias, using) if alias else None


def invalidate(using: str, records: Iterable[uuid.UUID]) -> bool:
    """Entries of these records count no more; False where the cache has not confirmed it."""
    found = replays(using)
    return found is None or found.invalidate(records)
