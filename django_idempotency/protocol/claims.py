"""A claim, and one try to get it.

An intent goes in; a :class:`Claim`, a stored response or a named error comes out. The INSERT of the
record's primary key is the only arbiter between two first requests. :mod:`.rules` decides what a
record allows; every change of it is one guarded UPDATE in :mod:`django_idempotency.storage`.
"""

import uuid
from dataclasses import dataclass
from enum import Enum, auto

from ..exceptions import AttemptsExhaustedError, TransitionError
from ..models import Status
from ..policy import Policy
from ..storage.records import PROBER_SECONDS, Store
from ..storage.values import Found, Inserted, Intent, StoredResponse, Terms
from .quota import place
from .rules import Origin, Running, TakeOver, begin, decide


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
        """Lock the record until the transaction ends; the lock is this owner's heartbeat.

        Raises RowLockedError when another transaction holds it now, and TransitionError when the
        claim was lost. A joined claim needs no lock: nobody else sees it, or it is locked already.
        """
        if not self.is_locked:
            return
        wait = PROBER_SECONDS if patiently else None
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

    def delete_envelope(self) -> None:
        """Delete the request that was stored for a completer."""
        self.store.delete_envelope(self.id)

    def release_late(self, error: str) -> bool:
        """Free the key after a rollback; False when it is locked, finished or not ours."""
        return self.store.release_late(self.id, self.terms.token, error[:255])

    def has_status(self, status: Status) -> bool:
        """Whether the record has this status, and still this claim's token."""
        found = self.store.read(self.id)
        return found is not None and found.token == self.terms.token and found.status is status


class Unclear(Enum):
    """Why a try says nothing about the record."""

    #: There was a row, and there is none.
    VANISHED = auto()
    #: Another writer, not necessarily of this key, holds the database (SQLite).
    DATABASE = auto()


def try_to_claim(
    store: Store, intent: Intent, policy: Policy
) -> Claim | StoredResponse | Running | Unclear:
    """What one look at the record says; the key is claimed where its record allows that.

    Raises KeyReusedError, KeyErasedError, AttemptsExhaustedError and QuotaExceededError.
    """
    # A quota counts new keys only, and a completer makes no record: both have to look first.
    looks = policy.max_keys_per_scope is not None or intent.is_resumed
    found = store.read(intent.id) if looks or store.dialect.reads_first else None
    if found is None:
        outcome = _begin(store, intent, policy)
        if not isinstance(outcome, Found):
            return outcome
        found = outcome
    grace, max_attempts = store.dialect.grace, policy.max_attempts
    plan = decide(found, intent, store, grace=grace, max_attempts=max_attempts)
    if not isinstance(plan, TakeOver):
        return plan
    return _taken_over(store, intent, policy, found, plan)


def _planned(store: Store, intent: Intent, policy: Policy, plan: TakeOver) -> Claim:
    """The claim that the plan makes, if it succeeds."""
    # The token is random: a counter would start again when a row is recycled.
    terms = Terms(uuid.uuid4(), plan.attempts, policy.atomic, policy.lease, policy.retention)
    return Claim(store, intent.id, terms, store.joined, plan.origin)


def _begin(store: Store, intent: Intent, policy: Policy) -> Claim | Running | Unclear | Found:
    """The claim of a key without a record, or the record that was there after all."""
    claim = _planned(store, intent, policy, begin(intent))
    inserted = insert(store, intent, policy, claim.terms)
    if inserted is Inserted.OURS:
        return claim
    if inserted is Inserted.LOCKED:
        return Running() if store.dialect.skips_locked else Unclear.DATABASE
    if isinstance(inserted, Found):
        return inserted
    return store.read(intent.id) or Unclear.VANISHED


def _taken_over(
    store: Store, intent: Intent, policy: Policy, found: Found, plan: TakeOver
) -> Claim | Running:
    claim = _planned(store, intent, policy, plan)
    if not take_over(store, intent, policy, found, plan, claim.terms):
        return Running(found)
    if plan.is_exhausted:
        claim.release_late(AttemptsExhaustedError.__name__)
        raise AttemptsExhaustedError
    return claim


def insert(store: Store, intent: Intent, policy: Policy, terms: Terms) -> Inserted | Found:
    """Insert the record of a new key, if the caller's quota allows one more."""
    with place(intent.scope, policy) as room:
        inserted = store.insert(intent, terms)
        room.taken = inserted is Inserted.OURS
    return inserted


def take_over(
    store: Store, intent: Intent, policy: Policy, found: Found, plan: TakeOver, terms: Terms
) -> bool:
    """Make a record that is as ``found`` ours; False when it is locked, or was changed meanwhile.

    A key whose life is over counts as a new one, whether its record was cleaned up or not.
    """
    with place(intent.scope, policy, is_new=plan.anew) as room:
        room.taken = store.take(intent, found, terms, anew=plan.anew)
    return room.taken
