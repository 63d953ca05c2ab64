"""The protocol: who may run, who gets the saved response, and who comes back later.

An :class:`~.rows.Intent` goes in; a :class:`Claim`, a stored response or a named error comes out.
The INSERT of the primary key is the only arbiter. What a second request finds is decided on the
row, by its status first; every change of it is one guarded UPDATE in :mod:`.store`.
"""

import uuid
from dataclasses import dataclass
from enum import Enum, auto

from ..exceptions import (
    AttemptsExhaustedError,
    KeyErasedError,
    KeyReusedError,
    TransitionError,
)
from ..models import Status
from ..policy import Policy
from ..storage.records import Store
from ..storage.values import Found, Inserted, Intent, StoredResponse, Terms
from .quota import place

# The grace doubles with each attempt up to this, or eager duplicates would fence each other off for
# ever.
_LONGEST_GRACE_SECONDS = 8.0
# A prober holds the row for one statement; an owner who met one waits this long for it.
_PROBER_SECONDS = 1.0
# Inserted by somebody and cleaned up before we looked: twice is bad luck, three times a fault.
_ROUNDS = 3


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
class Claim:
    """The right to run one operation, as long as the record carries this token."""

    store: Store
    id: uuid.UUID
    terms: Terms
    #: Whether the claim is a part of a transaction that was open before it.
    joined: bool
    origin: Origin = Origin.NOTHING

    @property
    def is_locked(self) -> bool:
        """Whether a row lock of the view's own transaction vouches for the claim."""
        return self.terms.atomic and not self.joined

    @property
    def is_first(self) -> bool:
        """Whether no attempt of this life of the key came before."""
        return self.origin in (Origin.NOTHING, Origin.EXPIRED)

    def lock(self, *, patiently: bool = False) -> None:
        """Hold the record until the transaction ends; the lock is this owner's heartbeat.

        Raises RowLockedError when somebody holds it just now, and TransitionError when the claim
        was lost. A joined claim is invisible or locked for everybody else already.
        """
        if not self.is_locked:
            return
        wait = _PROBER_SECONDS if patiently else None
        if not self.store.lock(self.id, self.terms.token, wait=wait):
            raise TransitionError("taken over before the view began")

    def complete(self, response: StoredResponse, *, commit: bool = False) -> None:
        """Save the response; raises TransitionError when the claim was lost.

        ``commit``, for a claim that :attr:`can_commit`, ends the transaction, too.
        """
        token, terms = self.terms.token, self.terms
        if not self.store.complete(
            self.id, token, response, terms.retention, locked=self.is_locked, commit=commit
        ):
            raise TransitionError("taken over before the response was saved")

    def release(self, *, commit: bool = False) -> None:
        """Free the key with the view's writes; the rest is as for :meth:`complete`."""
        token = self.terms.token
        if not self.store.release(self.id, token, locked=self.is_locked, commit=commit):
            raise TransitionError("taken over before the key was released")

    @property
    def can_commit(self) -> bool:
        """Whether settling it can be one message with the COMMIT of its transaction."""
        return self.is_locked and self.store.can_commit

    def wipe(self) -> None:
        """Throw away the request that was stored for a completer."""
        self.store.delete_envelope(self.id)

    def release_late(self, error: str) -> bool:
        """Free the key after a rollback; False when it is locked, finished or not ours."""
        return self.store.release_late(self.id, self.terms.token, error[:255])

    def is_held(self) -> bool:
        """Whether nobody has taken it over."""
        return self._stands(Status.IN_PROGRESS)

    def is_committed(self) -> bool:
        """Whether this attempt's response is saved."""
        return self._stands(Status.COMPLETED)

    def _stands(self, status: Status) -> bool:
        found = self.store.read(self.id)
        return found is not None and found.token == self.terms.token and found.status is status


@dataclass(frozen=True, slots=True)
class _Running:
    """Somebody runs or holds the record; ``found`` is how it was read, if it could be."""

    found: Found | None = None


class _Unclear(Enum):
    """Why nothing can be said of the record this time."""

    #: There was a row, and there is none.
    VANISHED = auto()
    #: Some writer, not necessarily of this key, holds the database (SQLite).
    DATABASE = auto()


@dataclass(frozen=True, slots=True)
class _Take:
    """The record may be made ours, if nobody holds it."""

    attempts: int
    anew: bool = False


def seems_dead(found: Found, grace: float) -> bool:
    """Whether asking for the owner's lock is worth it; the lock itself decides."""
    if not found.atomic:
        return found.lease_over
    grace = min(grace * 2.0 ** (found.attempts - 1), _LONGEST_GRACE_SECONDS)
    return found.touched or found.age >= grace


def _is_over(found: Found, intent: Intent) -> bool:
    """Whether this life of the key has ended."""
    return found.status is not Status.IN_PROGRESS and found.expired and not intent.is_resumed


def _decide(found: Found, intent: Intent, grace: float) -> _Take | _Running | StoredResponse:
    if _is_over(found, intent):
        return _Take(1, anew=True)
    if not found.fingerprint:
        raise KeyErasedError
    same = found.fingerprint == intent.fingerprint
    # An attempt that was no transaction may have left traces of what it was asked.
    if not same and not (found.status is Status.RELEASED and found.atomic):
        raise KeyReusedError
    if found.response is not None:
        return found.response
    if found.status is Status.IN_PROGRESS and not seems_dead(found, grace):
        return _Running(found)
    return _Take(found.attempts + 1 if same else 1)


def _terms(policy: Policy, attempts: int) -> Terms:
    # Random: a counter would start again when a row is recycled.
    return Terms(uuid.uuid4(), attempts, policy.atomic, policy.lease, policy.retention)


def _origin(found: Found, step: _Take) -> Origin:
    if step.anew:
        return Origin.EXPIRED
    return Origin.DEAD if found.status is Status.IN_PROGRESS else Origin.FREE


def _inserted(store: Store, intent: Intent, policy: Policy, claim: Claim) -> Inserted | Found:
    if policy.max_keys_per_scope is None:
        return store.insert(intent, claim.terms)
    with place(intent.scope, policy) as room:
        inserted = store.insert(intent, claim.terms)
        room.taken = inserted is Inserted.OURS
    return inserted


def _take(
    store: Store, intent: Intent, policy: Policy, found: Found, step: _Take
) -> Claim | _Running:
    exhausted = policy.max_attempts is not None and step.attempts > policy.max_attempts
    if exhausted and found.status is Status.RELEASED:
        raise AttemptsExhaustedError
    attempts = found.attempts if exhausted else step.attempts
    origin = _origin(found, step)
    claim = Claim(store, intent.id, _terms(policy, attempts), store.joined, origin)
    # To its caller a key whose life is over is a new one, whether it has been cleaned up or not.
    with place(intent.scope, policy, is_new=step.anew) as room:
        room.taken = store.take(intent, found, claim.terms, anew=step.anew)
    if not room.taken:
        return _Running(found)
    if exhausted:
        # The last owner died, which only having the row could tell.
        claim.release_late("AttemptsExhaustedError")
        raise AttemptsExhaustedError
    return claim


def _try(
    store: Store, intent: Intent, policy: Policy
) -> Claim | StoredResponse | _Running | _Unclear:
    # A quota is asked for new keys only, so whether this one is new must be known before.
    reads_first = store.dialect.reads_first or policy.max_keys_per_scope is not None
    found = store.read(intent.id) if reads_first or intent.is_resumed else None
    if found is None and intent.is_resumed:
        raise KeyErasedError
    if found is None:
        claim = Claim(store, intent.id, _terms(policy, 1), store.joined)
        inserted = _inserted(store, intent, policy, claim)
        if inserted is Inserted.OURS:
            return claim
        if inserted is Inserted.LOCKED:
            return _Running() if store.dialect.skips_locked else _Unclear.DATABASE
        found = inserted if isinstance(inserted, Found) else store.read(intent.id)
    if found is None:
        return _Unclear.VANISHED
    step = _decide(found, intent, store.dialect.grace)
    if not isinstance(step, _Take):
        return step
    return _take(store, intent, policy, found, _checked(store, intent, found, step))


def _checked(store: Store, intent: Intent, found: Found, step: _Take) -> _Take:
    """What is taken where an operation is not finished: it does not expire, and stays itself.

    Raises KeyReusedError for another request.
    """
    same = found.fingerprint == intent.fingerprint
    if step.anew and found.status is Status.RELEASED and store.has_envelope(intent.id):
        step = _Take(found.attempts + 1)
    if not (same or step.anew) and store.is_unfinished(intent.id):
        raise KeyReusedError
    return step
