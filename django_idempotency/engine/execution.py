"""The story of a covered request.

    read key -> scope -> fingerprint -> claim -> run the view in a transaction -> save -> commit

:func:`execute` tells it: it admits the request, runs the view, and settles the claim. The doors
call it with a policy and a key; :mod:`.lookup` finds the claim, and :mod:`.attempts` owns the
view's transaction. What is guaranteed, sentence by sentence:

- The view's writes on the record's database and the saved response commit in one transaction.
- A response is replayed only if that transaction committed.
- With and without a key the view runs in the same transaction, under the same rule.
- An attempt that raised or answered 5xx leaves nothing but a free key; one that died leaves a row
  lock that nobody holds.
- After a COMMIT that raised, the record is asked what became of it before the client gets a reply.
"""

from collections.abc import Collection

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from ..durable.acceptance import accepted
from ..durable.envelopes import Envelope, Resumption, envelope_of, resumption_of, store_envelope
from ..exceptions import IdempotencyError, InProgressError
from ..http.fingerprint import fingerprint_of
from ..http.keys import Key, record_id, scope_of
from ..http.requests import http_request, state_of
from ..http.responses import replay
from ..models import IdempotencyRecord, Status
from ..monitoring.exporters import span
from ..operation import Operation, current_operation
from ..policy import Policy
from ..protocol.claims import Claim
from ..replay_cache.replays import Slot, replays
from ..storage.transactions import UNREACHABLE
from ..storage.values import Intent, StoredResponse
from .attempts import AsyncView, Attempt, View
from .lookup import accepted_or_found, found, unavailable


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
        admitted = _admit(request, policy, key, apart)
        if admitted is None:
            return view()
        if isinstance(admitted, Attempt):
            return admitted.run_and_settle(view)
        return admitted


async def aexecute(
    request: HttpRequest, policy: Policy, key: Key | None, view: AsyncView
) -> HttpResponseBase:
    """The same for a view that is a coroutine: outside of any transaction, under a lease."""
    with span():
        admitted = await sync_to_async(_admit)(request, policy.for_a_coroutine(), key)
        if admitted is None:
            return await view()
        if isinstance(admitted, Attempt):
            return await admitted.arun_and_settle(view)
        return admitted


def _admit(
    request: HttpRequest, policy: Policy, key: Key | None, apart: Collection[str] = ()
) -> Attempt | HttpResponseBase | None:
    """The attempt to make, the reply to give, or None inside an attempt of the same key."""
    if key is None:
        return _attempt(request, database_of(request, policy), policy, apart)
    resumption = resumption_of(request)
    if resumption is not None:
        return _resumed(request, policy, resumption, apart)
    envelope = envelope_of(request) if policy.keeps_request else None
    intent = _intent(request, policy, key)
    if _is_inner(intent):
        return None
    _refuse_another_view(request, intent)
    alias = database_of(request, policy)
    if policy.respond == "accepted" and envelope is not None:
        return _accepted(alias, intent, policy, envelope)
    cached = replays(alias)
    slot = cached.look(intent) if cached else None
    outcome = found(alias, intent, policy.for_a_person() if key.from_field else policy, slot)
    if isinstance(outcome, StoredResponse):
        return replay(outcome)
    if envelope is not None:
        _store_request(alias, outcome, intent, policy, envelope)
    return _attempt(request, alias, policy, apart, intent, outcome, slot)


def _accepted(alias: str, intent: Intent, policy: Policy, envelope: Envelope) -> HttpResponseBase:
    """The reply to a request that is stored and run later, or the response it got."""
    # Fail before claiming if the status URLs are missing.
    later = accepted(intent)
    response = accepted_or_found(alias, intent, policy, envelope)
    return later if response is None else replay(response)


def _resumed(
    request: HttpRequest, policy: Policy, resumption: Resumption, apart: Collection[str]
) -> Attempt | HttpResponseBase:
    """The attempt a completer makes in the client's stead."""
    intent = resumption.intent
    if _is_inner(intent):
        # A task queue that runs tasks at once, in the view that enqueued one.
        resumption.refusal = InProgressError()
        raise resumption.refusal
    policy, alias = policy.for_a_completer(), database_of(request, policy)
    try:
        outcome = found(alias, intent, policy)
    except IdempotencyError as error:
        resumption.refusal = error
        raise
    if isinstance(outcome, StoredResponse):
        return replay(outcome)
    resumption.token = outcome.terms.token
    return _attempt(request, alias, policy, apart, intent, outcome)


def _attempt(
    request: HttpRequest,
    alias: str,
    policy: Policy,
    apart: Collection[str],
    intent: Intent | None = None,
    claim: Claim | None = None,
    slot: Slot | None = None,
) -> Attempt:
    plain = http_request(request)
    operation = Operation(plain, alias, intent, claim, inside=policy.atomic)
    return Attempt(alias, claim, operation, policy, apart, slot)


def _store_request(
    alias: str, claim: Claim, intent: Intent, policy: Policy, envelope: Envelope
) -> None:
    """Store the request for the completer; raises if that fails, so that nothing runs."""
    try:
        if not claim.has_status(Status.IN_PROGRESS):
            raise InProgressError
        store_envelope(alias, intent, policy, envelope)
    except BaseException as error:
        claim.release_late(type(error).__name__)
        if isinstance(error, UNREACHABLE):
            raise unavailable(error) from error
        raise


def database_of(request: HttpRequest, policy: Policy) -> str:
    """The alias of the record and of the view's transaction."""
    using = policy.using(request) if callable(policy.using) else policy.using
    return using or router.db_for_write(IdempotencyRecord)


def _intent(request: HttpRequest, policy: Policy, key: Key) -> Intent:
    scope = scope_of(request, policy, key.value)
    plain = http_request(request)
    return Intent(
        id=record_id(scope, key.value),
        scope=scope,
        key=key.value,
        fingerprint=fingerprint_of(request, policy),
        method=(plain.method or "")[:16],
        # PostgreSQL's text holds every character but this one.
        path=plain.path[:255].replace("\0", "\N{REPLACEMENT CHARACTER}"),
    )


def _refuse_another_view(request: HttpRequest, intent: Intent) -> None:
    """Raise ImproperlyConfigured for a second view that would get the reply of the first."""
    state = state_of(request)
    if state.views.setdefault(intent.id, state.view) is not state.view:
        raise ImproperlyConfigured(
            f"{state.view!r} is the second view with @idempotent that this request calls, and one"
            " key stands for one operation: put the door on the view that calls both."
        )


def _is_inner(intent: Intent) -> bool:
    outer = current_operation()
    return outer is not None and outer.record_id == intent.id
