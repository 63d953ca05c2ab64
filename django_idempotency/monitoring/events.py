"""What happened to a key is counted, logged and sent as a signal, after the fact.

A receiver can neither delay a COMMIT nor break a request.
"""

import hashlib
import logging
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from django.db import connections, transaction

from .. import conf, signals
from ..models import IdempotencyRecord
from ..storage.transactions import is_doomed
from ..storage.values import Intent
from . import counts

logger = logging.getLogger("django_idempotency.events")


class Kind(StrEnum):
    """The kinds of events; the signal of the same name explains each."""

    CLAIMED = "claimed"
    COMPLETED = "completed"
    REPLAYED = "replayed"
    CONFLICTED = "conflicted"
    MISMATCHED = "mismatched"
    RELEASED = "released"
    TAKEN_OVER = "taken_over"
    EXPIRED = "expired"


#: The log levels of the events; those that every request causes are logged at DEBUG.
_LEVELS = {
    Kind.REPLAYED: logging.INFO,
    Kind.CONFLICTED: logging.INFO,
    Kind.EXPIRED: logging.INFO,
    Kind.MISMATCHED: logging.WARNING,
    Kind.TAKEN_OVER: logging.WARNING,
}
# These write nothing, so they are true even if the transaction around them is rolled back.
_ONLY_READ = frozenset((Kind.REPLAYED, Kind.CONFLICTED, Kind.MISMATCHED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of one key.

    ``attempt`` is the attempt's number and ``status`` the response's, if there are any. ``error``
    is the name of the exception's class that ended a failed attempt, or a text like ``HTTP 503``.
    ``using`` is the record's database.
    """

    kind: Kind
    using: str
    record_id: uuid.UUID
    scope: str
    key: str
    method: str
    path: str
    attempt: int | None = None
    status: int | None = None
    error: str = ""

    @property
    def key_hash(self) -> str:
        """The beginning of the key's SHA-256: enough to follow one key, too little to use it."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The name that it is counted by."""
        return _name(self.kind, self.error)


def _name(kind: Kind, error: str) -> str:
    """Failed attempts are counted apart from those without an outcome."""
    return "failed" if error and kind is Kind.RELEASED else kind.value


def tell(
    kind: Kind,
    using: str,
    intent: Intent | IdempotencyRecord,
    *,
    attempt: int | None = None,
    status: int | None = None,
    error: str = "",
) -> None:
    """Count, log and signal what happened to the record of an intent."""
    name = _name(kind, error)
    counts.count(name, using)
    level = logging.WARNING if name == "failed" else _LEVELS.get(kind, logging.DEBUG)
    logs = logger.isEnabledFor(level)
    sends = getattr(signals, kind).has_listeners(IdempotencyRecord)
    if not (logs or sends):
        return
    event = Event(
        kind=kind,
        using=using,
        record_id=intent.id,
        scope=intent.scope,
        key=intent.key,
        method=intent.method,
        path=intent.path,
        attempt=attempt,
        status=status,
        error=error,
    )
    if logs:
        logger.log(level, "idempotency key %s", name, extra={"idempotency": _extra(event)})
    if sends:
        _send(event)


def listen(receiver: Callable[..., None], name: str) -> None:
    """Connect a receiver of the package's own to every signal, once."""
    for kind in Kind:
        getattr(signals, kind).connect(receiver, dispatch_uid=f"django_idempotency.{name}")


def _extra(event: Event) -> dict[str, Any]:
    """The event for the log, by default without the key, which is an anonymous caller's secret."""
    extra = {**asdict(event), "kind": event.kind.value, "record_id": str(event.record_id)}
    return extra if conf.logs_keys() else {**extra, "key": event.key_hash}


def _send(event: Event) -> None:
    signal = getattr(signals, event.kind)
    send = partial(signal.send_robust, IdempotencyRecord, event=event)
    if not connections[event.using].in_atomic_block:
        send()
    elif event.kind in _ONLY_READ:
        # A receiver's failing statement must not abort the transaction around it.
        with transaction.atomic(using=event.using):
            send()
            transaction.set_rollback(is_doomed(event.using), using=event.using)
    else:
        transaction.on_commit(send, using=event.using, robust=True)
