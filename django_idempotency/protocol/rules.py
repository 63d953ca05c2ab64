"""The state table: what a record that was read allows a request to do.

Pure functions of plain values, without a database or a clock. A claim and an accepted request both
do what :func:`decide` says. ``docs/guarantees.rst`` shows the same table in words.
"""

import uuid
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

from ..exceptions import AttemptsExhaustedError, KeyErasedError, KeyReusedError
from ..models import Status
from ..storage.values import Found, Intent, StoredResponse

# Without an upper bound the grace of a key that failed often would be hours.
_LONGEST_GRACE_SECONDS = 8.0


class Origin(Enum):
    """What a claim was made from."""

    #: There was no record.
    NOTHING = auto()
    #: The last attempt freed the key.
    FREE = auto()
    #: An earlier life of the key, which was over.
    EXPIRED = auto()
    #: An attempt whose owner died.
    DEAD = auto()


@dataclass(frozen=True, slots=True)
class TakeOver:
    """The plan to make the record ours, as attempt number ``attempts``, if nobody holds it.

    ``is_exhausted`` says that the attempts were used up by an owner that seems dead: the record is
    taken over only to release it.
    """

    attempts: int
    origin: Origin
    is_exhausted: bool = False

    @property
    def anew(self) -> bool:
        """Whether another life of the key begins."""
        return self.origin is Origin.EXPIRED


@dataclass(frozen=True, slots=True)
class Running:
    """Another attempt runs or holds the record; ``found`` is how it was read, if it could be."""

    found: Found | None = None


class Parts(Protocol):
    """What belongs to a record beside its row."""

    def has_envelope(self, record: uuid.UUID) -> bool:
        """Whether the request is stored, so that a completer may finish the operation."""

    def is_unfinished(self, record: uuid.UUID) -> bool:
        """Whether steps or the request are stored."""


def begin(intent: Intent) -> TakeOver:
    """The plan without a record; raises KeyErasedError for a completer: its operation is gone."""
    if intent.is_resumed:
        raise KeyErasedError
    return TakeOver(1, Origin.NOTHING)


def decide(
    found: Found, intent: Intent, parts: Parts, *, grace: float, max_attempts: int | None = None
) -> TakeOver | Running | StoredResponse:
    """What the record allows: to take it over, to come back later, or to replay its response.

    ``grace`` is in seconds. ``parts`` is asked only where it matters, for that costs a statement.
    Raises KeyErasedError, KeyReusedError and AttemptsExhaustedError.
    """
    if _is_over(found, intent, parts):
        return TakeOver(1, Origin.EXPIRED)
    _refuse_another(found, intent, parts)
    if found.response is not None:
        return found.response
    if found.status is Status.IN_PROGRESS and not seems_dead(found, grace):
        return Running(found)
    return _next_attempt(found, intent, max_attempts)


def seems_dead(found: Found, grace: float) -> bool:
    """Whether asking for the owner's lock is worth it; the lock itself decides."""
    if not found.atomic:
        return found.lease_over
    # Duplicates that come too early would fence each other off for ever, so the grace doubles.
    grace = min(grace * 2.0 ** (found.attempts - 1), _LONGEST_GRACE_SECONDS)
    return found.touched or found.age >= grace


def _is_over(found: Found, intent: Intent, parts: Parts) -> bool:
    """Whether this life of the key has ended; what a completer can finish does not expire."""
    if found.status is Status.IN_PROGRESS or not found.expired or intent.is_resumed:
        return False
    return found.status is Status.COMPLETED or not parts.has_envelope(intent.id)


def _refuse_another(found: Found, intent: Intent, parts: Parts) -> None:
    if not found.fingerprint:
        raise KeyErasedError
    if found.fingerprint == intent.fingerprint:
        return
    # A released atomic attempt left nothing, so a corrected request may reuse the key. Any other
    # may have left traces of the first request.
    left_nothing = found.status is Status.RELEASED and found.atomic
    if not left_nothing or parts.is_unfinished(intent.id):
        raise KeyReusedError


def _next_attempt(found: Found, intent: Intent, max_attempts: int | None) -> TakeOver:
    origin = Origin.DEAD if found.status is Status.IN_PROGRESS else Origin.FREE
    attempts = found.attempts + 1 if found.fingerprint == intent.fingerprint else 1
    if max_attempts is None or attempts <= max_attempts:
        return TakeOver(attempts, origin)
    if origin is Origin.FREE:
        raise AttemptsExhaustedError
    return TakeOver(found.attempts, origin, is_exhausted=True)
