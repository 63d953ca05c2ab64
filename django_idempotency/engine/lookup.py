"""Finds what becomes of an intent: the right to run it, or the response it left.

It asks the replay cache first, if there is one, and then the database; listeners hear what either
said.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..codecs import UndecodableError, configured
from ..durable.acceptance import accept
from ..durable.envelopes import Envelope
from ..exceptions import InProgressError, KeyReusedError, UnavailableError
from ..http.responses import decoded
from ..monitoring.events import Kind, tell
from ..policy import Policy
from ..protocol.claims import Claim
from ..protocol.rules import Origin
from ..protocol.waiting import obtain
from ..replay_cache.replays import Slot
from ..storage.records import Store
from ..storage.transactions import UNREACHABLE
from ..storage.values import Intent, StoredResponse

logger = logging.getLogger("django_idempotency")

_REFUSALS = {InProgressError: Kind.CONFLICTED, KeyReusedError: Kind.MISMATCHED}
_CLAIMS = {
    Origin.NOTHING: (Kind.CLAIMED,),
    Origin.FREE: (Kind.CLAIMED,),
    Origin.EXPIRED: (Kind.EXPIRED, Kind.CLAIMED),
    Origin.DEAD: (Kind.TAKEN_OVER,),
}


def found(
    alias: str, intent: Intent, policy: Policy, slot: Slot | None = None
) -> Claim | StoredResponse:
    """The claim to run the operation, or the response it left, decoded; listeners were told.

    ``slot`` is what the replay cache says. Raises UnavailableError where the database cannot be
    reached or the response cannot be decoded, and what :func:`.waiting.obtain` raises.
    """
    with _refusals_told(alias, intent):
        outcome = _cached_or_obtained(alias, intent, policy, slot)
    if isinstance(outcome, StoredResponse):
        return _replayed(alias, intent, outcome)
    for kind in _CLAIMS[outcome.origin]:
        tell(kind, alias, intent, attempt=outcome.terms.attempts)
    return outcome


def accepted_or_found(
    alias: str, intent: Intent, policy: Policy, envelope: Envelope
) -> StoredResponse | None:
    """The response, decoded; or None: the request is stored, and will be run later.

    Raises UnavailableError as :func:`found` does, and what :func:`.acceptance.accept` raises.
    """
    with _refusals_told(alias, intent):
        response = accept(Store(alias), intent, policy, envelope)
    return None if response is None else _replayed(alias, intent, response)


def unavailable(error: Exception) -> UnavailableError:
    """What to raise when the database cannot be reached; the log says why."""
    logger.error("the store cannot be reached, so nothing runs", exc_info=error)
    return UnavailableError()


@contextmanager
def _refusals_told(alias: str, intent: Intent) -> Iterator[None]:
    """Tell listeners of a refusal; raises UnavailableError for a database that is not there."""
    # A codec that cannot be used fails here, before the view runs, and not when its reply is saved.
    configured()
    try:
        yield
    except (InProgressError, KeyReusedError) as error:
        tell(_REFUSALS[type(error)], alias, intent, status=error.status)
        raise
    except UNREACHABLE as error:
        raise unavailable(error) from error


def _replayed(alias: str, intent: Intent, saved: StoredResponse) -> StoredResponse:
    tell(Kind.REPLAYED, alias, intent, status=saved.status)
    try:
        return decoded(saved)
    except UndecodableError as error:
        logger.error("record %s is %s; nothing runs", intent.id, error, exc_info=True)
        raise UnavailableError from error


def _cached_or_obtained(
    alias: str, intent: Intent, policy: Policy, slot: Slot | None
) -> Claim | StoredResponse:
    if slot and slot.response is not None:
        return slot.response
    if slot and slot.is_running and not policy.wait:
        raise InProgressError
    store = Store(alias)
    return _obtained(store, intent, policy, slot) if slot else obtain(store, intent, policy)


def _obtained(store: Store, intent: Intent, policy: Policy, slot: Slot) -> Claim | StoredResponse:
    """What the database says; the replay cache learns it."""
    try:
        outcome = obtain(store, intent, policy)
    except InProgressError:
        slot.fence()
        raise
    if isinstance(outcome, Claim):
        if outcome.origin is Origin.EXPIRED:
            slot.invalidate()
        slot.fence()
    elif outcome.expires_in is not None and not store.joined:
        # In a transaction that was open before, an older snapshot may show a response that has
        # expired.
        slot.fill(outcome, outcome.expires_in)
    return outcome
