"""A request that is accepted now and run later: a claim that nobody holds, and its envelope.

The claim is parked: its lease is over from the beginning, so that whoever completes the operation
takes it over as one that was left. Until then every repetition is accepted again.
"""

import uuid
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import JsonResponse
from django.urls import reverse
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import AttemptsExhaustedError, KeyErasedError, KeyReusedError, UnavailableError
from ..models import Status
from ..policy import Policy
from ..protocol.quota import place
from ..storage.records import Store
from ..storage.values import Found, Inserted, Intent, StoredResponse, Terms
from .envelopes import Envelope, is_given_up, logger, store_envelope

# Cleaned up between two looks: twice is bad luck, three times a fault.
_ROUNDS = 3
_RETRY_AFTER_SECONDS = 1


def status_url(record: uuid.UUID) -> str:
    """Where the state of an accepted operation is told; raises NoReverseMatch without the URLs."""
    return reverse("django_idempotency:operation", args=[record])


def _is_over(store: Store, found: Found, intent: Intent) -> bool:
    if found.status is Status.IN_PROGRESS or not found.expired:
        return False
    return found.status is Status.COMPLETED or not store.has_envelope(intent.id)


def _refuse(store: Store, found: Found, intent: Intent) -> None:
    if not found.fingerprint:
        raise KeyErasedError
    same = found.fingerprint == intent.fingerprint
    # What its client is to mend is another request then.
    is_free = found.status is Status.RELEASED and found.atomic
    if not same and not (is_free and not store.is_unfinished(intent.id)):
        raise KeyReusedError


def _insert(store: Store, intent: Intent, policy: Policy, terms: Terms) -> Inserted | Found:
    with place(intent.scope, policy) as room:
        inserted = store.insert(intent, terms)
        room.taken = inserted is Inserted.OURS
    return inserted


def _take(
    store: Store, intent: Intent, policy: Policy, found: Found, terms: Terms, *, anew: bool
) -> bool:
    with place(intent.scope, policy, is_new=anew) as room:
        room.taken = store.take(intent, found, terms, anew=anew)
    return room.taken


def _look(
    store: Store, intent: Intent, policy: Policy, found: Found | None
) -> StoredResponse | bool | None:
    """What one look at the record says; None where somebody was faster, and to look again."""
    terms = Terms(uuid.uuid4(), 0, atomic=False, lease=timedelta(), retention=policy.retention)
    if found is None:
        return _insert(store, intent, policy, terms) is Inserted.OURS or None
    if _is_over(store, found, intent):
        return _take(store, intent, policy, found, terms, anew=True) or None
    _refuse(store, found, intent)
    if found.response is not None:
        return found.response
    if found.status is Status.IN_PROGRESS:
        return found.lease_over
    if store.has_envelope(intent.id):
        return False
    # Its last run was no outcome, and left it to the client.
    return _take(store, intent, policy, found, terms, anew=False) or None


def _park(store: Store, intent: Intent, policy: Policy) -> StoredResponse | bool:
    """The response, or whether the operation waits for somebody to run it."""
    for _ in range(_ROUNDS):
        outcome = _look(store, intent, policy, store.read(intent.id))
        if outcome is not None:
            return outcome
    raise UnavailableError


def accept(
    store: Store, intent: Intent, policy: Policy, envelope: Envelope
) -> StoredResponse | None:
    """The response, if there is one; else the operation is stored and will be run.

    Raises KeyReusedError, KeyErasedError, QuotaExceededError, UnavailableError, and
    AttemptsExhaustedError when no completer tries it any more.
    """
    waits = _park(store, intent, policy)
    if isinstance(waits, StoredResponse):
        return waits
    # Who parked it may have died before he stored it.
    if waits and not store.has_envelope(intent.id):
        store_envelope(store.alias, intent, policy, envelope)
        transaction.on_commit(lambda: _enqueue(intent.id, store.alias), using=store.alias)
    elif is_given_up(store.alias, intent.id):
        raise AttemptsExhaustedError
    return None


def _enqueue(record: uuid.UUID, using: str) -> None:
    path = conf.enqueue()
    if path is None:
        return
    try:
        import_string(path)(record, using)
    except Exception:
        logger.exception("operation %s was not enqueued; the completer finds it", record)


def accepted(intent: Intent) -> JsonResponse:
    """The answer to a request that will be run: 202, and where to ask for its state."""
    url = status_url(intent.id)
    body: dict[str, Any] = {"id": str(intent.id), "state": "accepted", "url": url}
    headers = {"Location": url, "Retry-After": str(_RETRY_AFTER_SECONDS)}
    return JsonResponse(body, status=202, headers=headers)
