"""A request that is accepted now and run later: a claim without an owner, and its envelope.

The claim is parked: its lease is over from the beginning, so that a completer takes it over like
one whose owner died. Until then every repetition of the request is accepted again.
"""

import uuid
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.db import transaction
from django.http import JsonResponse
from django.urls import reverse
from django.utils.module_loading import import_string

from .. import conf
from ..exceptions import AttemptsExhaustedError, UnavailableError
from ..policy import Policy
from ..protocol.claims import insert, take_over
from ..protocol.rules import Origin, Running, decide
from ..protocol.waiting import ROUNDS
from ..storage.records import Store
from ..storage.values import Found, Inserted, Intent, StoredResponse, Terms
from .envelopes import Envelope, is_given_up, logger, store_envelope

_RETRY_AFTER_SECONDS = 1


class _Look(Enum):
    """What one look at the record says, if not the response."""

    #: Nobody runs the operation, and its request need not be stored yet.
    PARKED = auto()
    #: The operation runs, or its request is stored.
    UNDERWAY = auto()
    #: Another process changed the record meanwhile.
    CHANGED = auto()


def status_url(record: uuid.UUID) -> str:
    """The URL of an accepted operation's state; raises NoReverseMatch without the status URLs."""
    return reverse("django_idempotency:operation", args=[record])


def _look(
    store: Store, intent: Intent, policy: Policy, found: Found | None
) -> StoredResponse | _Look:
    terms = Terms(uuid.uuid4(), 0, atomic=False, lease=timedelta(), retention=policy.retention)
    if found is None:
        is_ours = insert(store, intent, policy, terms) is Inserted.OURS
        return _Look.PARKED if is_ours else _Look.CHANGED
    plan = decide(found, intent, store, grace=store.dialect.grace)
    if isinstance(plan, StoredResponse):
        return plan
    if isinstance(plan, Running) or plan.origin is Origin.DEAD:
        return _Look.PARKED if found.lease_over else _Look.UNDERWAY
    if plan.origin is Origin.FREE and store.has_envelope(intent.id):
        return _Look.UNDERWAY
    # A new life of the key; or the last run was no outcome, and left the rest to the client.
    is_ours = take_over(store, intent, policy, found, plan, terms)
    return _Look.PARKED if is_ours else _Look.CHANGED


def _park(store: Store, intent: Intent, policy: Policy) -> StoredResponse | _Look:
    for _ in range(ROUNDS):
        outcome = _look(store, intent, policy, store.read(intent.id))
        if outcome is not _Look.CHANGED:
            return outcome
    raise UnavailableError


def accept(
    store: Store, intent: Intent, policy: Policy, envelope: Envelope
) -> StoredResponse | None:
    """The response, if there is one; otherwise the operation is stored and will be run.

    Raises KeyReusedError, KeyErasedError, QuotaExceededError, UnavailableError, and
    AttemptsExhaustedError when no completer tries it any more.
    """
    outcome = _park(store, intent, policy)
    if isinstance(outcome, StoredResponse):
        return outcome
    # The process that parked the claim may have died before it stored the request.
    if outcome is _Look.PARKED and not store.has_envelope(intent.id):
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
    """The reply to a request that will be run later: 202, and the URL of its state."""
    url = status_url(intent.id)
    body: dict[str, Any] = {"id": str(intent.id), "state": "accepted", "url": url}
    headers = {"Location": url, "Retry-After": str(_RETRY_AFTER_SECONDS)}
    return JsonResponse(body, status=202, headers=headers)
