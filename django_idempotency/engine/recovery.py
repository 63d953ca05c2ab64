"""What an error in an attempt means: for its record, for its key, and for the client.

Receives an error and how far the attempt came. It frees the key if that is possible, and raises
the error, or what the client should get instead; after a COMMIT that raised it asks the record
whether the response is saved.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import Error, connections
from django.http import Http404
from django.http.response import HttpResponseBase

from ..exceptions import IdempotencyError, InProgressError, TransitionError, UnavailableError
from ..models import Status
from ..monitoring.events import Kind, tell
from ..operation import Operation
from ..policy import Policy
from ..protocol.claims import Claim
from ..replay_cache.replays import Slot
from ..storage.records import RowLockedError
from ..storage.transactions import UNREACHABLE

logger = logging.getLogger("django_idempotency")


class Phase(Enum):
    """How far an attempt came."""

    BEFORE_VIEW = auto()
    VIEW = auto()
    SAVE = auto()
    COMMIT = auto()
    #: Committed; what raises now is a hook of on_commit().
    DONE = auto()


class Fault(Enum):
    """What kind of error ended an attempt."""

    #: The record is not this attempt's, or was locked for too long to tell.
    LOST_CLAIM = auto()
    #: The record's database could not be reached, or broke off.
    UNREACHABLE = auto()
    #: The record's database undid the transaction, because another one was faster.
    UNSERIALIZABLE = auto()
    OTHER = auto()


class Freed(Enum):
    """What became of the key after the rollback."""

    YES = auto()
    #: The record is locked, finished or another owner's; or there is no key, or it was not tried.
    NO = auto()
    #: The database could not be asked.
    UNKNOWN = auto()


class Answer(Enum):
    """What to do about the error."""

    #: Raise it.
    RAISE = auto()
    #: 503: nothing ran, nothing is left of it, or the outcome is unknown.
    UNAVAILABLE = auto()
    #: The response if the record says that it is saved, else 503.
    ASK_THE_RECORD = auto()
    #: 409: another attempt has the record.
    IN_PROGRESS = auto()


def _always(answer: Answer) -> Mapping[Freed, Answer]:
    return dict.fromkeys(Freed, answer)


# An error that is not in the table is raised.
_ANSWERS: Mapping[tuple[Fault, Phase], Mapping[Freed, Answer]] = {
    **{(Fault.LOST_CLAIM, phase): _always(Answer.IN_PROGRESS) for phase in Phase},
    (Fault.UNREACHABLE, Phase.BEFORE_VIEW): _always(Answer.UNAVAILABLE),
    (Fault.UNREACHABLE, Phase.COMMIT): {
        # The response may be saved, or be locked by a COMMIT that ends later.
        Freed.NO: Answer.ASK_THE_RECORD,
        Freed.UNKNOWN: Answer.UNAVAILABLE,
    },
    (Fault.UNSERIALIZABLE, Phase.BEFORE_VIEW): _always(Answer.UNAVAILABLE),
    # At the last moment: nothing was done, and a retry may succeed.
    (Fault.UNSERIALIZABLE, Phase.SAVE): _always(Answer.UNAVAILABLE),
    (Fault.UNSERIALIZABLE, Phase.COMMIT): {
        **_always(Answer.UNAVAILABLE),
        Freed.NO: Answer.ASK_THE_RECORD,
    },
}


def answer_to(fault: Fault, phase: Phase, freed: Freed) -> Answer:
    """What to do about an error of this kind, in this phase, when the key is free or not."""
    return _ANSWERS.get((fault, phase), {}).get(freed, Answer.RAISE)


def tell_of(operation: Operation, alias: str, kind: Kind, **details: Any) -> None:
    """Tell listeners what became of an attempt; one without a key is not reported."""
    if operation.intent:
        tell(kind, alias, operation.intent, attempt=operation.attempt, **details)


def _is_the_clients(error: BaseException) -> bool:
    """Whether Django or REST framework answers it with a 4xx, so that a completer cannot help."""
    if isinstance(error, IdempotencyError):
        return False
    by_itself = isinstance(error, Http404 | PermissionDenied | SuspiciousOperation | BadRequest)
    return by_itself or 400 <= getattr(error, "status_code", 500) < 500


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is done when an attempt ended without an outcome."""

    alias: str
    claim: Claim | None
    operation: Operation
    policy: Policy
    slot: Slot | None = None

    def after(
        self, error: BaseException, phase: Phase, response: HttpResponseBase | None
    ) -> HttpResponseBase:
        """The response, if it is saved all the same; raises the error, or what it means."""
        fault = self._fault_of(error)
        if isinstance(error, UNREACHABLE) and phase in (Phase.BEFORE_VIEW, Phase.COMMIT):
            self._hang_up()
        freed = self._free_after(error, fault, phase)
        if phase is Phase.DONE and response and fault is not Fault.LOST_CLAIM:
            tell_of(self.operation, self.alias, Kind.COMPLETED, status=response.status_code)
        answer = answer_to(fault, phase, freed)
        if answer is Answer.ASK_THE_RECORD and response and self._is_committed():
            logger.warning("COMMIT raised, and the record says it was done", exc_info=error)
            tell_of(self.operation, self.alias, Kind.COMPLETED, status=response.status_code)
            return response
        if answer is Answer.RAISE:
            raise error
        raise (InProgressError if answer is Answer.IN_PROGRESS else UnavailableError) from error

    def _fault_of(self, error: BaseException) -> Fault:
        if isinstance(error, TransitionError | RowLockedError):
            return Fault.LOST_CLAIM
        if self.claim is None or not isinstance(error, UNREACHABLE):
            return Fault.OTHER
        is_lost = self.claim.store.dialect.is_lost(error)
        return Fault.UNSERIALIZABLE if is_lost else Fault.UNREACHABLE

    def _free_after(self, error: BaseException, fault: Fault, phase: Phase) -> Freed:
        if phase is Phase.DONE:
            return Freed.NO
        # Without a row lock the claim need not be lost to another owner: the row was locked for
        # long, or a deadlock undid what was written.
        if fault is Fault.LOST_CLAIM and self.policy.atomic:
            return Freed.NO
        return self.release_late(type(error).__name__, for_good=_is_the_clients(error))

    def release_late(self, reason: str, *, for_good: bool = False) -> Freed:
        """Free the key after a rollback; that never changes the reply.

        ``for_good`` says that the client has to mend the request, so no completer tries it again.
        """
        if self.claim is None:
            return Freed.NO
        try:
            is_freed = self.claim.release_late(reason)
        except Error:
            self._hang_up()
            logger.warning("a key could not be released; a retry takes it over", exc_info=True)
            return Freed.UNKNOWN
        if not is_freed:
            return Freed.NO
        tell_of(self.operation, self.alias, Kind.RELEASED, error=reason)
        if self.slot:
            self.slot.clear_fence()
        if for_good and self.policy.keeps_request:
            self._delete_envelope_late(self.claim)
        return Freed.YES

    def _delete_envelope_late(self, claim: Claim) -> None:
        try:
            claim.delete_envelope()
        except Error:
            self._hang_up()
            logger.info("a stored request is left to the completer", exc_info=True)

    def _is_committed(self) -> bool:
        """Whether the record says that the response is saved; raises UnavailableError."""
        try:
            return self.claim is not None and self.claim.has_status(Status.COMPLETED)
        except Error as unreachable:
            self._hang_up()
            raise UnavailableError from unreachable

    def _hang_up(self) -> None:
        """Drop a connection that failed where a transaction begins or ends.

        The server may still be in that transaction, whatever Django thinks: the connection would
        read what was not committed, and hold the row.
        """
        connection = connections[self.alias]
        if not connection.in_atomic_block:
            connection.close()
