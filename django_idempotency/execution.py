"""The story of a covered request; :mod:`.attempts` owns the transaction of its view.

    read key -> scope -> fingerprint -> claim -> run the view in a transaction -> save -> commit

What is guaranteed, sentence by sentence:

- The view's writes on the record's database and the saved response commit in one transaction.
- A response is replayed only if that transaction committed.
- With and without a key the view runs in the same transaction, under the same rule.
- An attempt that raised or answered 5xx leaves nothing but a free key; one that died leaves a row
  lock nobody holds.
- After a COMMIT that raised, the record is asked what became of it before anything is said.
"""

import logging
from collections.abc import Collection

from asgiref.sync import sync_to_async
from django.db import router
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .attempts import UNREACHABLE, AsyncView, Attempt, View
from .claims import Claim, Origin, obtain
from .codecs import UndecodableError, configured, decoded
from .events import Kind, event_of, tell
from .exceptions import InProgressError, KeyReusedError, UnavailableError
from .fingerprint import fingerprint_of
from .http import http_request
from .keys import Key, record_id, scope_of
from .models import IdempotencyRecord
from .operation import Operation, current_operation
from .policy import Policy
from .responses import replay
from .store import Intent, Store, StoredResponse
from .telemetry import span

logger = logging.getLogger("django_idempotency")


def database_of(request: HttpRequest, policy: Policy) -> str:
    """The alias of the record and of the view's transaction."""
    using = policy.using(request) if callable(policy.using) else policy.using
    return using or router.db_for_write(IdempotencyRecord)


def _intent(request: HttpRequest, policy: Policy, key: Key) -> Intent:
    scope = scope_of(request, policy, key.value)
    return Intent(
        id=record_id(scope, key.value),
        scope=scope,
        key=key.value,
        fingerprint=fingerprint_of(request, policy),
        method=(request.method or "")[:16],
        # PostgreSQL's text holds every character but this one.
        path=request.path[:255].replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )


_REFUSALS = {InProgressError: Kind.CONFLICTED, KeyReusedError: Kind.MISMATCHED}
_CLAIMS = {
    Origin.FREE: (Kind.CLAIMED,),
    Origin.EXPIRED: (Kind.EXPIRED, Kind.CLAIMED),
    Origin.DEAD: (Kind.TAKEN_OVER,),
}


def _tell(alias: str, intent: Intent, outcome: Claim | StoredResponse) -> None:
    if isinstance(outcome, StoredResponse):
        tell(event_of(Kind.REPLAYED, alias, intent, status=outcome.status))
        return
    for kind in _CLAIMS[outcome.origin]:
        tell(event_of(kind, alias, intent, attempt=outcome.terms.attempts))


def _decoded(intent: Intent, saved: StoredResponse) -> StoredResponse:
    try:
        return decoded(saved)
    except UndecodableError as error:
        logger.error("record %s is %s; nothing runs", intent.id, error, exc_info=True)
        raise UnavailableError from error


def _obtain(alias: str, intent: Intent, policy: Policy) -> Claim | StoredResponse:
    # Codecs that cannot be used are found out before the view runs, not when its reply is saved.
    configured()
    try:
        outcome = obtain(Store(alias), intent, policy)
    except (InProgressError, KeyReusedError) as error:
        tell(event_of(_REFUSALS[type(error)], alias, intent, status=error.status))
        raise
    except UNREACHABLE as error:
        logger.error("the store cannot be reached, so nothing runs", exc_info=True)
        raise UnavailableError from error
    if isinstance(outcome, StoredResponse):
        outcome = _decoded(intent, outcome)
    _tell(alias, intent, outcome)
    return outcome


def _begin(
    request: HttpRequest, policy: Policy, key: Key | None, apart: Collection[str] = ()
) -> Attempt | StoredResponse | None:
    """The attempt to make, the reply to give again, or None inside an attempt of the same key."""
    plain = http_request(request)
    if key is None:
        operation = Operation(plain, None, 1)
        return Attempt(database_of(request, policy), None, operation, policy, apart)
    intent = _intent(request, policy, key)
    outer = current_operation()
    if outer is not None and outer.record_id == intent.id:
        return None
    alias = database_of(request, policy)
    outcome = _obtain(alias, intent, policy.for_a_person() if key.from_field else policy)
    if isinstance(outcome, StoredResponse):
        return outcome
    operation = Operation(plain, intent, outcome.terms.attempts)
    return Attempt(alias, outcome, operation, policy, apart)


def execute(
    request: HttpRequest,
    policy: Policy,
    key: Key | None,
    view: View,
    *,
    apart: Collection[str] = (),
) -> HttpResponseBase:
    """The view's response, or the one an earlier request with the same key got.

    ``request`` is what the view sees (REST framework's Request, too); ``view`` runs it and renders
    its response; ``apart`` are aliases the view keeps out of ATOMIC_REQUESTS. Raises an
    IdempotencyError, or whatever the view raises.
    """
    with span():
        beginning = _begin(request, policy, key, apart)
        if isinstance(beginning, Attempt):
            return beginning.run(view)
        return view() if beginning is None else replay(beginning)


async def aexecute(
    request: HttpRequest, policy: Policy, key: Key | None, view: AsyncView
) -> HttpResponseBase:
    """The same for a view that is a coroutine: outside of any transaction, under a lease."""
    with span():
        beginning = await sync_to_async(_begin)(request, policy.for_a_coroutine(), key)
        if isinstance(beginning, Attempt):
            return await beginning.arun(view)
        return await view() if beginning is None else replay(beginning)
