"""What the client of an accepted operation may ask: how far it came, and its response."""

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
    """How far an accepted operation came."""

    #: Nobody has begun to run it.
    ACCEPTED = "accepted"
    #: It runs, or has been left and will be taken up again.
    RUNNING = "running"
    #: It could not be finished yet, and will be tried again.
    PENDING = "pending"
    #: It has an outcome: the response.
    COMPLETED = "completed"
    #: It was answered without an outcome: the request has to be mended and sent again.
    REFUSED = "refused"
    #: It failed for good, and what was done before has been taken back.
    FAILED = "failed"
    #: It failed too often, and waits for a person.
    STOPPED = "stopped"


_OVER = frozenset((State.COMPLETED, State.REFUSED, State.FAILED, State.STOPPED))


def found(
    request: HttpRequest, record_id: uuid.UUID, policy: Policy, using: str | None
) -> tuple[str, IdempotencyRecord]:
    """The caller's own record and its database; raises Http404 for everybody else's."""
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
    """How far the operation of a record came."""
    if record.status == Status.COMPLETED:
        return State.COMPLETED
    if record.status == Status.IN_PROGRESS:
        return State.RUNNING if record.attempts else State.ACCEPTED
    return _state_without_claim(using, record)


def _steps(using: str, record: IdempotencyRecord) -> list[dict[str, Any]]:
    rows = record.steps.using(using).order_by("pk")
    return [
        {"name": row.name, "status": row.status, "completed_at": row.completed_at}
        for row in rows.only("name", "status", "completed_at")
        if row.status != StepStatus.STARTED
    ]


def described(using: str, record: IdempotencyRecord) -> JsonResponse:
    """The state of an operation, its steps, and the response if there is one."""
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
    """The operation's response, as a repetition of its request would get it.

    Raises Http404 and, where it cannot be read, UnavailableError.
    """
    row = Store(using).read(record.pk)
    if row is None or row.response is None:
        raise Http404
    try:
        return replay(decoded(row.response))
    except UndecodableError as error:
        logger.error("record %s is %s", record.pk, error, exc_info=True)
        raise UnavailableError from error
