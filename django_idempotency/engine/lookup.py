"""What becomes of an intent: the right to run it, or the response it left.

The replay cache is asked first, if there is one, then the database; what they say is told to
whoever listens.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from ..codecs import UndecodableError, configured
from ..exceptions import InProgressError, KeyReusedError, UnavailableError
from ..http.responses import decoded
from ..monitoring.events import Kind, tell
from ..policy import Policy
from ..protocol.claims import Claim, Origin
from ..protocol.waiting import obtain
from ..replay_cache.replays import Slot
from ..storage.records import Store
from ..storage.transactions import UNREACHABLE
from ..storage.values import Intent, StoredResponse

logger = logging.getLogger("django_idempotency")

#: What else there may be than a response: a claim, or nothing yet.
Other = TypeVar("Other", Claim, None)

_REFUSALS = {InProgressError: Kind.CONFLICTED, KeyReusedError: Kind.MISMATCHED}
_CLAIMS = {
    Origin.NOTHING: (Kind.CLAIMED,),
    Origin.FREE: (Kind.CLAIMED,),
    Origin.EXPIRED: (Kind.EXPIRED, Kind.CLAIMED),
    Origin.DEAD: (Kind.TAKEN_OVER,),
}


def _tell(alias: str, intent: Intent, outcome: Claim | StoredResponse) -> None:
    if isinstance(outcome, StoredResponse):
        tell(Kind.REPLAYED, alias, intent, status=outcome.status)
        return
    for kind in _CLAIMS[outcome.origin]:
        tell(kind, alias, intent, attempt=outcome.terms.attempts)


def _read(intent: Intent, saved: StoredResponse) -> StoredResponse:
    try:
        return decoded(saved)
    except UndecodableError as error:
        logger.error("record %s is %s; nothing runs", intent.id, error, exc_info=True)
        raise UnavailableError from error


def unavailable(error: Exception) -> UnavailableError:
    """What to raise when the database cannot be reached; the log says why."""
    logger.error("the store cannot be reached, so nothing runs", exc_info=error)
    return UnavailableError()


def look_up(
    alias: str, intent: Intent, find: Callable[[], Other | StoredResponse]
) -> Other | StoredResponse:
    """What ``find`` finds, told to whoever listens, and readable.

    Raises what it raises, and UnavailableError where the database cannot be reached, or the
    response not be read.
    """
    # Codecs that cannot be used are found out before the view runs, not when its reply is saved.
    configured()
    try:
        outcome = find()
    except (InProgressError, KeyReusedError) as error:
        tell(_REFUSALS[type(error)], alias, intent, status=error.status)
        raise
    except UNREACHABLE as error:
        raise unavailable(error) from error
    if outcome is not None:
        _tell(alias, intent, outcome)
    return _read(intent, outcome) if isinstance(outcome, StoredResponse) else outcome


def found(alias: str, intent: Intent, policy: Policy, slot: Slot | None) -> Claim | StoredResponse:
    """The right to run it, or the response: in the cache, or in the database."""
    if slot is None:
        return obtain(Store(alias), intent, policy)
    if slot.response is not None:
        return slot.response
    if slot.is_running and not policy.wait:
        raise InProgressError
    store = Store(alias)
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
        # An older snapshot, in a transaction that was open before, may show what is over.
        slot.fill(outcome, outcome.expires_in)
    return outcome
