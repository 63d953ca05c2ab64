"""The protocol: who may run, who gets the saved response, and who comes back later.

An :class:`~.store.Intent` goes in; a :class:`Claim`, a stored response or a named error comes out.
The INSERT of the primary key is the only arbiter. What a second request finds is decided on the
row, by its status first; every change of it is one guarded UPDATE in :mod:`.store`.
"""

import time
import uuid
from dataclasses import dataclass
from enum import Enum, auto

from .exceptions import (
    AttemptsExhaustedError,
    InProgressError,
    KeyReusedError,
    TransitionError,
    UnavailableError,
)
from .models import Status
from .policy import Policy
from .store import Found, Inserted, Intent, Store, StoredResponse, Terms

# What an owner needs between his claim and his row lock, many times over; an eager duplicate must
# not take the claim in between. It doubles with each attempt, or eager duplicates would fence each
# other off for ever.
_GRACE_SECONDS = 0.25
_LONGEST_GRACE_SECONDS = 8.0
# A prober holds the row for one statement; an owner who met one waits this long for it.
_PROBER_SECONDS = 1.0
# Inserted by somebody and cleaned up before we looked: twice is bad luck, three times a fault.
_ROUNDS = 3
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one operation, as long as the record carries this token."""

    store: Store
    id: uuid.UUID
    terms: Terms
    #: Whether the claim is a part of a transaction that was open before it.
    joined: bool

    def lock(self, *, patiently: bool = False) -> None:
        """Hold the record until the transaction ends; the lock is this owner's heartbeat.

        Raises RowLockedError when somebody holds it just now, and TransitionError when the claim
        was lost. A joined claim is invisible or locked for everybody else already.
        """
        if self.joined:
            return
        wait = _PROBER_SECONDS if patiently else None
        if not self.store.lock(self.id, self.terms.token, wait=wait):
            raise TransitionError("taken over before the view began")

    def complete(self, response: StoredResponse) -> None:
        """Save the response; raises TransitionError when the claim was lost."""
        retention = self.terms.retention
        if not self.store.complete(self.id, self.terms.token, response, retention):
            raise TransitionError("taken over before the response was saved")

    def release(self) -> None:
        """Free the key with the view's writes; raises TransitionError when the claim was lost."""
        if not self.store.release(self.id, self.terms.token):
            raise TransitionError("taken over before the key was released")

    def release_late(self, error: str) -> bool:
        """Free the key after a rollback; False when it is locked, finished or not ours."""
        return self.store.release_late(self.id, self.terms.token, error[:255])

    def is_committed(self) -> bool:
        """Whether this attempt's response is saved."""
        found = self.store.read(self.id)
        return (
            found is not None
            and found.token == self.terms.token
            and found.status is Status.COMPLETED
        )


class _Busy(Enum):
    """Why a request got neither claim nor response this time."""

    #: Somebody runs or holds it.
    RUNNING = auto()
    #: There was a row, and there is none.
    VANISHED = auto()
    #: Some writer, not necessarily of this key, holds the database (SQLite).
    DATABASE = auto()


@dataclass(frozen=True, slots=True)
class _Take:
    """The record may be made ours, if nobody holds it."""

    attempts: int
    anew: bool = False


def _seems_dead(found: Found) -> bool:
    """Whether asking for the owner's lock is worth it; the lock itself decides."""
    if not found.atomic:
        return found.lease_over
    grace = min(_GRACE_SECONDS * 2.0 ** (found.attempts - 1), _LONGEST_GRACE_SECONDS)
    return found.touched or found.age >= grace


def _decide(found: Found, fingerprint: bytes) -> _Take | _Busy | StoredResponse:
    same = found.fingerprint == fingerprint
    if found.status is not Status.IN_PROGRESS and found.expired:
        return _Take(1, anew=True)
    # An attempt that was no transaction may have left traces of what it was asked.
    if not same and not (found.status is Status.RELEASED and found.atomic):
        raise KeyReusedError
    if found.response is not None:
        return found.response
    if found.status is Status.IN_PROGRESS and not _seems_dead(found):
        return _Busy.RUNNING
    return _Take(found.attempts + 1 if same else 1)


def _terms(policy: Policy, attempts: int) -> Terms:
    # Random: a counter would start again when a row is recycled.
    return Terms(uuid.uuid4(), attempts, policy.atomic, policy.lease, policy.retention)


def _take(store: Store, intent: Intent, policy: Policy, found: Found, step: _Take) -> Claim | _Busy:
    exhausted = policy.max_attempts is not None and step.attempts > policy.max_attempts
    if exhausted and found.status is Status.RELEASED:
        raise AttemptsExhaustedError
    attempts = found.attempts if exhausted else step.attempts
    claim = Claim(store, intent.id, _terms(policy, attempts), store.joined)
    if not store.take(intent, found, claim.terms, anew=step.anew):
        return _Busy.RUNNING
    if exhausted:
        # The last owner died, which only having the row could tell.
        claim.release_late("AttemptsExhaustedError")
        raise AttemptsExhaustedError
    return claim


def _try(store: Store, intent: Intent, policy: Policy) -> Claim | StoredResponse | _Busy:
    found = store.read(intent.id) if store.dialect.reads_first else None
    if found is None:
        claim = Claim(store, intent.id, _terms(policy, 1), store.joined)
        inserted = store.insert(intent, claim.terms)
        if inserted is Inserted.OURS:
            return claim
        if inserted is Inserted.LOCKED:
            return _Busy.DATABASE if store.dialect.reads_first else _Busy.RUNNING
        found = store.read(intent.id)
    if found is None:
        return _Busy.VANISHED
    step = _decide(found, intent.fingerprint)
    return _take(store, intent, policy, found, step) if isinstance(step, _Take) else step


def _back_off(deadline: float) -> None:
    """Return when looking again may help; raises InProgressError after the deadline."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise InProgressError
    # No row lock here: it would leave its number in xmax, by which a young claim seems touched,
    # and its owner dead, before he has begun.
    time.sleep(min(_POLL_SECONDS, remaining))


def obtain(store: Store, intent: Intent, policy: Policy) -> Claim | StoredResponse:
    """The claim to run the operation, or the response it left.

    Raises KeyReusedError, InProgressError (at once, or after ``policy.wait``),
    AttemptsExhaustedError, and UnavailableError where the store gives no clear answer.
    """
    began = time.monotonic()
    deadline = began + policy.wait.total_seconds()
    patience = 0.0 if store.joined else store.dialect.patience(store.connection)
    vanished = 0
    while True:
        outcome = _try(store, intent, policy)
        if not isinstance(outcome, _Busy):
            return outcome
        if outcome is _Busy.RUNNING:
            _back_off(deadline)
        elif outcome is _Busy.VANISHED:
            vanished += 1
        if vanished == _ROUNDS or (
            outcome is _Busy.DATABASE and time.monotonic() > began + patience
        ):
            raise UnavailableError
