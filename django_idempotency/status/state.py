"""The state and the response of an accepted operation, for the client that sent it."""

import logging
import uuid
from enum import StrEnum
from typing import Any

from django.db import router
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from ..codecs import UndecodableError
from ..durable.acceptance import status_url
from ..exceptions import FINAL_ERRORS, KeyInvalidError, UnavailableError
from ..http.keys import scope_of
from ..http.responses import decoded, replay
from ..models import IdempotencyEnvelope, IdempotencyRecord, Status, StepStatus
from ..policy import Policy
from ..storage.records import Store

logger = logging.getLogger("django_idempotency")


class State(StrEnum):
    """The state of an accepted operation."""

    #: No attempt has begun.
    ACCEPTED = "accepted"
    #: An attempt runs, or its owner died and the completer will take over.
    RUNNING = "running"
    #: It could not be finished yet, and will be tried again.
    PENDING = "pending"
    #: It is finished: there is a response to read.
    COMPLETED = "completed"
    #: It had no outcome: the client has to correct the request and send it again.
    REFUSED = "refused"
    #: It failed for good, and its steps have been undone.
    FAILED = "failed"
    #: It failed too often, and a person has to look.
    STOPPED = "stopped"


_OVER = frozenset((State.COMPLETED, State.REFUSED, State.FAILED, State.STOPPED))


def found(
    request: HttpRequest, record_id: uuid.UUID, policy: Policy, using: str | None
) -> tuple[str, IdempotencyRecord]:
    """The alias and the caller's own record; raises Http404 for any other record."""
    alias = using or router.db_for_read(IdempotencyRecord)
    records = IdempotencyRecord.objects.using(alias).defer("response_body")
    record = records.filter(pk=record_id).first()
    if record is None or record.is_erased:
        raise Http404
    try:
        scope = scope_of(request, policy, record.key)
    except KeyInvalidError:
        raise Http404 from None
    if scope != record.scope:
        raise Http404
    return alias, record


def _state_without_claim(using: str, record: IdempotencyRecord) -> State:
    row = IdempotencyEnvelope.objects.using(using).filter(pk=record.pk).only("due_at").first()
    if row is None:
        return State.FAILED if record.error in FINAL_ERRORS else State.REFUSED
    return State.STOPPED if row.due_at is None else State.PENDING


def state_of(using: str, record: IdempotencyRecord) -> State:
    """The state of a record's operation."""
    if record.status == Status.COMPLETED:
        return State.COMPLETED
    if record.status == Status.IN_PROGRESS:
        return State.RUNNING if record.attempts else State.ACCEPTED
    return _state_without_claim(using, record)


def _steps(using: str, record: IdempotencyRecord) -> list[Any]:
    rows = record.steps.using(using).exclude(status=StepStatus.STARTED).order_by("pk")
    return list(rows.values("name", "status", "completed_at"))


def described(using: str, record: IdempotencyRecord) -> JsonResponse:
    """The state of an operation as JSON: its steps, and the response's address if there is one."""
    state = state_of(using, record)
    url = status_url(record.pk)
    completed = {"status": record.response_status, "url": f"{url}response/"}
    body = {
        "id": str(record.pk),
        "state": state.value,
        "url": url,
        "created_at": record.created_at,
        "completed_at": record.completed_at,
        "steps": _steps(using, record),
        "response": completed if state is State.COMPLETED else None,
    }
    headers = {"Cache-Control": "no-store"} | ({} if state in _OVER else {"Retry-After": "1"})
    return JsonResponse(body, headers=headers)


def response_of(using: str, record: IdempotencyRecord) -> HttpResponse:
    """The operation's response, as a repeated request would get it.

    Raises Http404 if there is none yet, and UnavailableError if it cannot be decoded.
    """
    row = Store(using).read(record.pk)
    if row is None or row.response is None:
        raise Http404
    try:
        return replay(decoded(row.response))
    except UndecodableError as error:
        logger.error("record %s is %s", record.pk, error, exc_info=True)
        raise UnavailableError from error
