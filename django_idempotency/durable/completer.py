"""Unfinished operations are finished without their clients: their requests are made once more.

Each goes through the project's own middleware and view as if its client had sent it again, and
resumes after its last step; who else does the same at the same moment, a client or a completer, is
kept apart by the claim. What comes of it is on the record, where the client finds it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.handlers.base import BaseHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connections, router
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from .. import conf
from ..codecs import UndecodableError
from ..exceptions import (
    FINAL_ERRORS,
    IdempotencyError,
    InProgressError,
    KeyErasedError,
    OutcomeUnknownError,
    TransitionError,
)
from ..models import IdempotencyEnvelope, IdempotencyRecord, Status, UtcNow
from ..storage.records import RowLockedError
from ..storage.values import Intent
from .envelopes import Resumption, opened, request_of

logger = logging.getLogger("django_idempotency.completer")

#: Operations that are taken up in one go.
BATCH_SIZE = 100
_SHORTEST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(hours=1)
# Somebody else had the record, or its lock.
_NOT_OURS = frozenset((TransitionError.__name__, RowLockedError.__name__))


class Completion(StrEnum):
    """What came of taking up one operation."""

    #: Its response is saved.
    COMPLETED = "completed"
    #: It came to an end that no further attempt changes.
    FAILED = "failed"
    #: It answered without an outcome: that is its client's to mend.
    REFUSED = "refused"
    #: It is not finished, and will be taken up again.
    PENDING = "pending"
    #: Somebody else runs it just now.
    BUSY = "busy"
    #: It has been taken up too often, or its user may not go on: a person has to look at it.
    GIVEN_UP = "given_up"
    #: There is nothing to finish any more.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Completed:
    """One operation that was taken up, and what came of it."""

    record_id: UUID
    completion: Completion
    error: str = ""


class _NobodyError(Exception):
    """The operation's user is gone or not active any more."""


@cache
def _handler() -> BaseHandler:
    handler = BaseHandler()
    handler.load_middleware()
    return handler


def _pause(tries: int) -> timedelta:
    """How long an operation is left alone after so many tries."""
    doublings = min(tries - 1, 12)
    return min(_SHORTEST_PAUSE * (1 << doublings), _LONGEST_PAUSE)


def _user(user_id: str) -> Any:
    """Who sent the request, if they may still log in; None for nobody."""
    if not user_id:
        return None
    users = get_user_model()._default_manager
    try:
        user = users.filter(pk=user_id).first()
    except (ValueError, ValidationError):
        user = None
    if user is None or not user.is_active:
        raise _NobodyError
    return user


def _intent(record: IdempotencyRecord) -> Intent:
    return Intent(
        record.pk,
        record.scope,
        record.key,
        bytes(record.fingerprint),
        record.method,
        record.path,
        is_resumed=True,
    )


def _respond(
    row: IdempotencyEnvelope, record: IdempotencyRecord, resumption: Resumption
) -> HttpResponseBase:
    """What the project answers to the stored request."""
    envelope = opened(row)
    request = request_of(envelope, resumption, _user(envelope.user_id))
    adapt = conf.completer_request()
    if adapt:
        request = import_string(adapt)(request, record)
    with _between_requests():
        request_started.send(sender=BaseHandler, environ=request.META)
        response = _handler().get_response(request)
        response.close()
    return response


@contextmanager
def _between_requests() -> Iterator[None]:
    """Old connections are closed before and after, but for one whose transaction is open."""
    if not any(connections[alias].in_atomic_block for alias in connections):
        yield
        return
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    try:
        yield
    finally:
        for signal in signals:
            signal.connect(close_old_connections)


def _take_up(using: str, row: IdempotencyEnvelope, *, give_up: bool) -> bool:
    """Whether nobody else has taken it up meanwhile; the next may after a pause."""
    tries = row.tries + 1
    last = give_up and tries >= conf.completer_attempts()
    due_at = None if last else UtcNow() + _pause(tries)
    same = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk, tries=row.tries)
    return bool(same.update(tries=tries, due_at=due_at))


def _busy(using: str, row: IdempotencyEnvelope) -> Completed:
    """That was no try."""
    due_at = UtcNow() + _pause(row.tries + 1)
    taken_up = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk, tries=row.tries + 1)
    taken_up.update(tries=row.tries, due_at=due_at)
    return Completed(row.pk, Completion.BUSY)


def _give_up(using: str, row: IdempotencyEnvelope, error: str) -> Completed:
    IdempotencyEnvelope.objects.using(using).filter(pk=row.pk).update(due_at=None, error=error)
    logger.error("operation %s is left to a person: %s", row.pk, error)
    return Completed(row.pk, Completion.GIVEN_UP, error)


def _wipe(using: str, row: IdempotencyEnvelope, completion: Completion, error: str) -> Completed:
    # In one statement: a recycled key has an envelope of its own. And not by equality: SQLite
    # compares texts, of which Django writes whole seconds in another way.
    edge, later = row.created_at, row.created_at + timedelta(milliseconds=1)
    rows = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk)
    rows.filter(created_at__gte=edge, created_at__lt=later).delete()
    return Completed(row.pk, completion, error)


def complete(using: str, record_id: UUID) -> Completed:
    """Take up one operation now, due or not; never raises what its view raises."""
    row = IdempotencyEnvelope.objects.using(using).filter(pk=record_id).first()
    if row is None:
        return Completed(record_id, Completion.GONE)
    return _complete(using, row, give_up=False)


def _complete(using: str, row: IdempotencyEnvelope, *, give_up: bool) -> Completed:
    record = _record(using, row.pk)
    if record is None or record.is_erased:
        return _wipe(using, row, Completion.GONE, "")
    if record.status == Status.COMPLETED:
        return _wipe(using, row, Completion.COMPLETED, "")
    if not _take_up(using, row, give_up=give_up):
        return Completed(row.pk, Completion.BUSY)
    resumption = Resumption(_intent(record))
    try:
        response = _respond(row, record, resumption)
    except _NobodyError:
        return _give_up(using, row, "its user is gone or not active")
    except UndecodableError as error:
        return _give_up(using, row, str(error))
    except Exception as error:
        # Not of the view, which Django answers with a 500: the project's hook, say.
        logger.exception("operation %s could not be taken up", row.pk)
        return _left(using, row, type(error).__name__)
    if resumption.refusal is not None:
        return _refused(using, row, resumption.refusal)
    return _outcome(using, row, resumption, response)


def _refused(using: str, row: IdempotencyEnvelope, error: IdempotencyError) -> Completed:
    """What it means that the layer did not let the request run."""
    if isinstance(error, InProgressError):
        return _busy(using, row)
    name = type(error).__name__
    if isinstance(error, KeyErasedError):
        return _wipe(using, row, Completion.GONE, name)
    return _left(using, row, name) if error.retry_after else _give_up(using, row, name)


def _record(using: str, record_id: UUID) -> IdempotencyRecord | None:
    records = IdempotencyRecord.objects.using(using).defer("response_body", "response_headers")
    return records.filter(pk=record_id).first()


def _outcome(
    using: str, row: IdempotencyEnvelope, resumption: Resumption, response: HttpResponseBase
) -> Completed:
    """What the record says after its request was made once more."""
    record = _record(using, row.pk)
    if record is None:
        return _wipe(using, row, Completion.GONE, "")
    if record.status == Status.COMPLETED:
        return _wipe(using, row, Completion.COMPLETED, "")
    error = record.error or f"HTTP {response.status_code}"
    if resumption.token is None:
        # Nothing has run: a permission is gone, say, or the URL.
        return _left(using, row, f"HTTP {response.status_code}")
    if record.token != resumption.token or error in _NOT_OURS:
        return _busy(using, row)
    if error in FINAL_ERRORS:
        return _wipe(using, row, Completion.FAILED, error)
    if response.status_code < 500 and error != OutcomeUnknownError.__name__:
        return _wipe(using, row, Completion.REFUSED, error)
    return _left(using, row, error)


def _left(using: str, row: IdempotencyEnvelope, error: str) -> Completed:
    rows = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk)
    if rows.filter(due_at=None).exists():
        return _give_up(using, row, error)
    rows.update(error=error)
    logger.warning("operation %s is not finished yet: %s", row.pk, error)
    return Completed(row.pk, Completion.PENDING, error)


def complete_due(using: str = "", limit: int = BATCH_SIZE) -> Iterator[Completed]:
    """Take up the operations that are due, one after the other, the longest due first.

    Several completers may do so at once: each operation is run by one of them.
    """
    alias = using or router.db_for_write(IdempotencyRecord)
    due = IdempotencyEnvelope.objects.using(alias).filter(due_at__lte=UtcNow())
    for pk in list(due.order_by("due_at").values_list("pk", flat=True)[:limit]):
        row = due.filter(pk=pk).first()
        if row is not None:
            yield _complete(alias, row, give_up=True)


def forget_settings(**kwargs: Any) -> None:
    """Make the next operation see the settings anew; receives ``setting_changed``."""
    _handler.cache_clear()


def complete_as_task(record_id: str, using: str) -> str:
    """What a task queue calls for one operation; ``using`` may be empty. What came of it."""
    alias = using or router.db_for_write(IdempotencyRecord)
    return complete(alias, UUID(record_id)).completion.value


def complete_due_as_task(using: str, limit: int) -> int:
    """What a task queue calls now and then. How many operations were taken up."""
    return sum(1 for _ in complete_due(using, limit))
