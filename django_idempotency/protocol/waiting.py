"""Claim, or wait: a duplicate may wait for a running request, within bounds.

It tries to claim again and again, until the record says something clear, and until the policy's
patience and the places of this process for those that wait are used up.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ..exceptions import InProgressError, UnavailableError
from ..policy import Policy
from ..storage.records import Store
from ..storage.values import Found, Intent, StoredResponse
from .claims import Claim, Unclear, try_to_claim
from .rules import Running, seems_dead

# A waiter that the database does not wake looks again after a tenth of the time it has waited, and
# within these bounds: many waiters that ask often would slow the owner down.
_SHORTEST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 0.5
#: How often a record may vanish between an INSERT and the look at what stood in its way: a clean-up
#: may do that twice by bad luck, and a third time is a fault.
ROUNDS = 3


class _Waiters:
    """The duplicates of this process that wait now."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Nobody waits, and the lock is new: a fork may have copied one that a thread held."""
        self._lock = Lock()
        self._waiting = 0

    @contextmanager
    def one_more(self, limit: int) -> Iterator[None]:
        """Count the calling thread; raises InProgressError where ``limit`` wait already."""
        with self._lock:
            if self._waiting >= limit:
                raise InProgressError
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1


_waiters = _Waiters()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_waiters.forget)


def obtain(store: Store, intent: Intent, policy: Policy) -> Claim | StoredResponse:
    """The claim to run the operation, or the response it left.

    Raises InProgressError (at once, or after ``policy.wait``), UnavailableError where the store
    gives no clear answer, and what :func:`.claims.try_to_claim` raises.
    """
    outcome = _clear_outcome(store, intent, policy)
    if not isinstance(outcome, Running):
        return outcome
    if not policy.wait:
        raise InProgressError
    began, wait = time.monotonic(), policy.wait.total_seconds()
    with _waiters.one_more(policy.max_waiters):
        while (waited := time.monotonic() - began) < wait:
            _back_off(store, intent, outcome.found, waited, wait - waited)
            outcome = _clear_outcome(store, intent, policy)
            if not isinstance(outcome, Running):
                return outcome
    raise InProgressError


def _clear_outcome(
    store: Store, intent: Intent, policy: Policy
) -> Claim | StoredResponse | Running:
    """What the first clear look at the record says; raises UnavailableError without one."""
    vanished, deadline = 0, None
    while vanished < ROUNDS:
        outcome = try_to_claim(store, intent, policy)
        if not isinstance(outcome, Unclear):
            return outcome
        if outcome is Unclear.VANISHED:
            vanished += 1
        elif deadline is None:
            deadline = time.monotonic() + _patience(store)
        elif time.monotonic() > deadline:
            break
    raise UnavailableError


def _patience(store: Store) -> float:
    return 0.0 if store.joined else store.dialect.patience(store.connection)


def _back_off(
    store: Store, intent: Intent, found: Found | None, waited: float, left: float
) -> None:
    """Return when looking again may help, at the latest after ``left`` seconds."""
    # The lock of an owner that has not begun is free. A waiter that took it would make the owner
    # seem to have begun (PostgreSQL's xmax), and make it wait.
    began = found is not None and found.atomic and seems_dead(found, store.dialect.grace)
    if found and began and store.can_watch(left):
        store.watch(intent.id, found.token, left)
    else:
        pause = min(max(waited / 10, _SHORTEST_POLL_SECONDS), _LONGEST_POLL_SECONDS)
        time.sleep(min(pause, left))
