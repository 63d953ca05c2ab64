"""Completed records in a cache, in front of the database, which stays the only truth.

An entry counts only beside the marker it was filled under. A marker is random, and was there before
its filler looked into the database; who lets a record expire removes it afterwards. So a late
fill finds no marker, or another one, and counts for nothing: absence never matches. Everything is
signed, for its place only; it lives no longer than the retention, and than
``IDEMPOTENCY_CACHE_MAX_AGE``, and says itself until when: who brings an old one back gains nothing.
"""

import logging
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from .. import conf
from ..storage.values import Intent, StoredResponse
from .entries import _END, _packed, _unpacked, seal, unseal
from .transport import Breaker, Transport, transport_of

logger = logging.getLogger("django_idempotency.cache")

T = TypeVar("T")

_MARKER_BYTES = 16
_DIGEST_BYTES = 32
# As long as duplicates of a request whose worker was killed may be sent away for it.
_FENCE_SECONDS = 1.0


@cache
def _breaker(alias: str) -> Breaker:
    return Breaker()


def _names(using: str, record: uuid.UUID) -> tuple[str, str, str]:
    """Where the marker, the entry and the fence of a record lie: in one slot of a cluster."""
    tag = f"idempotency:{{{using}:{record.hex}}}"
    return f"{tag}:m", f"{tag}:e", f"{tag}:f"


@dataclass(frozen=True, slots=True)
class Slot:
    """What the cache knows of one request, and where to put what it will answer.

    ``response`` is the one it is to be answered with; ``is_running`` says that an equal request
    runs just now.
    """

    replays: "Replays"
    intent: Intent
    marker: bytes | None = None
    response: StoredResponse | None = None
    is_running: bool = False
    looked_at: float = field(default_factory=time.monotonic)

    def fill(self, response: StoredResponse, seconds: float) -> None:
        """Put a committed response there, which answers for so many seconds from the look on."""
        life = min(seconds, conf.cache_max_age().total_seconds())
        life -= time.monotonic() - self.looked_at
        if self.marker is None or response.body is None or life <= 0:
            self.clear()
            return
        content = _packed(self.marker, self.intent, response, life)
        if len(content) > conf.cache_max_bytes():
            self.clear()
            return
        self.replays.put(self.intent.id, content, life)

    def fence(self) -> None:
        """Have duplicates sent away by the cache, for a moment."""
        if conf.cache_inflight():
            self.replays.put_fence(self.intent)

    def forget(self) -> None:
        """Let nothing count that was put there before."""
        self.replays.clear(self.intent.id)

    def clear(self) -> None:
        """Send nobody away any more."""
        if conf.cache_inflight():
            self.replays.clear_fence(self.intent.id)


class Replays:
    """The replay cache for the records of one database."""

    def __init__(self, alias: str, using: str) -> None:
        self._alias = alias
        self._using = using
        self._breaker = _breaker(alias)

    def look(self, intent: Intent) -> Slot:
        """What lies in the cache for this request; without it, a slot that takes nothing."""
        names = _names(self._using, intent.id)
        asked = names if conf.cache_inflight() else names[:2]
        own, life = secrets.token_bytes(_MARKER_BYTES), conf.cache_max_age().total_seconds()
        found = self._ask("read", lambda cache: cache.look(asked, own, life))
        if found is None:
            return Slot(self, intent)
        marker, entry, *fence = found
        response = self._response(intent, marker, entry)
        is_running = response is None and self._is_running(intent, fence)
        # Where there was none, it is ours now.
        marker = own if marker is None else marker
        is_marker = len(marker) == _MARKER_BYTES
        return Slot(self, intent, marker if is_marker else None, response, is_running)

    def _response(
        self, intent: Intent, marker: bytes | None, entry: bytes | None
    ) -> StoredResponse | None:
        if marker is None or entry is None or len(marker) != _MARKER_BYTES:
            return None
        content = unseal(self._place(intent.id, "e"), entry)
        return _unpacked(content, marker, intent) if content else None

    def _is_running(self, intent: Intent, fence: list[bytes | None]) -> bool:
        sealed = fence[0] if fence else None
        content = unseal(self._place(intent.id, "f"), sealed) if sealed else None
        if not content or content[_END.size :] != intent.fingerprint:
            return False
        return time.time() < float(_END.unpack_from(content)[0])

    def _place(self, record: uuid.UUID, kind: str) -> str:
        return f"{kind}:{self._using}:{record.hex}"

    def put(self, record: uuid.UUID, content: bytes, life: float) -> None:
        """Write an entry, and take the fence away."""
        _, entry, fence = _names(self._using, record)
        sealed = seal(self._place(record, "e"), content)
        remove = [fence] if conf.cache_inflight() else []
        self._ask("filled", lambda cache: cache.put(entry, sealed, life, remove=remove))

    def put_fence(self, intent: Intent) -> None:
        """Say that this request runs."""
        fence = _names(self._using, intent.id)[2]
        content = _END.pack(time.time() + _FENCE_SECONDS) + intent.fingerprint
        sealed = seal(self._place(intent.id, "f"), content)
        self._ask("filled", lambda cache: cache.put(fence, sealed, _FENCE_SECONDS))

    def clear_fence(self, record: uuid.UUID) -> None:
        """Say that nothing runs."""
        self._ask("cleared", lambda cache: cache.remove(_names(self._using, record)[2:]))

    def clear(self, record: uuid.UUID) -> None:
        """Let nothing count that was put there before, if the cache answers at all."""
        self._ask("cleared", lambda cache: cache.remove(_names(self._using, record)))

    def forget(self, records: Iterable[uuid.UUID]) -> bool:
        """Let entries of these records count no more; whether the cache has said so.

        Otherwise they may be replayed until their ``IDEMPOTENCY_CACHE_MAX_AGE`` is over. Asks the
        cache even where it is left alone.
        """
        names = [_names(self._using, record) for record in records]
        removed = self._answer("cleared", lambda cache: [cache.remove(each) for each in names])
        return removed is not None and all(removed)

    def _ask(self, what: str, question: Callable[[Transport], T]) -> T | None:
        """What the cache answers; None where it fails, or is left alone just now."""
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


def has_replays() -> bool:
    """Whether the project has a replay cache."""
    return bool(conf.cache_alias())


def forget(using: str, records: Iterable[uuid.UUID]) -> bool:
    """Let entries of these records count no more; False where the cache has not said so."""
    found = replays(using)
    return found is None or found.forget(records)
