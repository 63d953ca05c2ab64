"""Claim, or wait: a duplicate may wait for a running request, within bounds."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from ..exceptions import (
    InProgressError,
    UnavailableError,
)
from ..policy import Policy
from ..storage.records import Store
from ..storage.values import Found, Intent, StoredResponse
from .claims import _ROUNDS, Claim, _Running, _try, _Unclear, seems_dead

# A waiter whom the database does not wake looks again after a tenth of the time he has waited, and
# within these bounds: many of them would keep the owner himself from running.
_SHORTEST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 0.5


class _Room:
    """Where the duplicates of this process wait; full, it sends them away."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting = 0

    @contextmanager
    def seat(self, seats: int) -> Iterator[None]:
        """A place for one more; raises InProgressError where all ``seats`` are taken."""
        with self._lock:
            if self._waiting >= seats:
                raise InProgressError
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1


_room = _Room()


def _back_off(
    store: Store, intent: Intent, found: Found | None, waited: float, left: float
) -> None:
    """Return when looking again may help, at the latest after ``left`` seconds."""
    # The lock of an owner who has not begun is free. Whoever took it would make him seem to have
    # begun (PostgreSQL's xmax) and send him away to wait.
    began = found is not None and found.atomic and seems_dead(found, store.dialect.grace)
    if found and began and store.can_watch(left):
        store.watch(intent.id, found.token, left)
    else:
        pause = min(max(waited / 10, _SHORTEST_POLL_SECONDS), _LONGEST_POLL_SECONDS)
        time.sleep(min(pause, left))


def obtain(store: Store, intent: Intent, policy: Policy) -> Claim | StoredResponse:
    """The claim to run the operation, or the response it left.

    Raises KeyReusedError, InProgressError (at once, or after ``policy.wait``),
    AttemptsExhaustedError, QuotaExceededError, and UnavailableError where the store gives no clear
    answer.
    """
    outcome = _settled(store, intent, policy)
    if not isinstance(outcome, _Running):
        return outcome
    if not policy.wait:
        raise InProgressError
    began, wait = time.monotonic(), policy.wait.total_seconds()
    with _room.seat(policy.max_waiters):
        while (waited := time.monotonic() - began) < wait:
            _back_off(store, intent, outcome.found, waited, wait - waited)
            outcome = _settled(store, intent, policy)
            if not isinstance(outcome, _Running):
                return outcome
    raise InProgressError


def _settled(store: Store, intent: Intent, policy: Policy) -> Claim | StoredResponse | _Running:
    """What a clear look at the record says; raises UnavailableError where none is to be had."""
    vanished, deadline = 0, None
    while vanished < _ROUNDS:
        outcome = _try(store, intent, policy)
        if not isinstance(outcome, _Unclear):
            return outcome
        if outcome is _Unclear.VANISHED:
            vanished += 1
        elif deadline is None:
            deadline = time.monotonic() + _patience(store)
        elif time.monotonic() > deadline:
            break
    raise UnavailableError


def _patience(store: Store) -> float:
    return 0.0 if store.joined else store.dialect.patience(store.connection)
