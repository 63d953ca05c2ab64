"""Finishes operations whose clients do not come back: makes their stored requests once more.

A stored request goes through the project's own middleware and view, as if its client had sent it
again, and resumes after its last recorded step. The claim keeps it apart from clients and other
completers that do the same. The outcome is saved on the record, where the client finds it.

The completer gives up after ``IDEMPOTENCY_COMPLETER_ATTEMPTS`` tries, and at once when no further
try could help (:func:`_give_up`): a person has to look then.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.handlers.base import BaseHandler
from django.core.signals import request_started
from django.db import connections, router
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
from .envelopes import Envelope, Resumption, mark_of_user, opened, request_of

logger = logging.getLogger("django_idempotency.completer")

#: How many operations are taken up in one go.
BATCH_SIZE = 100
_SHORTEST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(hours=1)
# What Django's signals of a request call on each connection of the thread.
_CLOSE = "close_if_unusable_or_obsolete"
# Errors that mean: another process had the claim, or the row lock.
_NOT_OURS = frozenset((TransitionError.__name__, RowLockedError.__name__))


class Completion(StrEnum):
    """How it ended when an operation was taken up."""

    #: Its response is saved.
    COMPLETED = "completed"
    #: It came to an end that no further attempt changes.
    FAILED = "failed"
    #: It answered, without an outcome (a 400, say): only its client can mend that.
    REFUSED = "refused"
    #: It is not finished, and will be taken up again.
    PENDING = "pending"
    #: Another process runs it just now.
    BUSY = "busy"
    #: It was taken up too often, or no try can succeed: a person has to look at it.
    GIVEN_UP = "given_up"
    #: There is nothing left to finish.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Completed:
    """One operation that was taken up, and how that ended."""

    record_id: UUID
    completion: Completion
    error: str = ""


class _NobodyError(Exception):
    """The operation's user was deleted or deactivated."""


@cache
def _handler() -> BaseHandler:
    handler = BaseHandler()
    handler.load_middleware()
    return handler


def _pause(tries: int) -> timedelta:
    """How long an operation is left alone after so many tries."""
    doublings = min(tries - 1, 12)
    return min(_SHORTEST_PAUSE * (1 << doublings), _LONGEST_PAUSE)


def _user(envelope: Envelope) -> Any:
    """The user who sent the request, or None; raises _NobodyError if they may not log in now."""
    if not envelope.user_id:
        return None
    users = get_user_model()._default_manager
    try:
        user = users.filter(pk=envelope.user_id).first()
    except (ValueError, ValidationError):
        user = None
    if user is None or not user.is_active or mark_of_user(user) != envelope.user_mark:
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
    """The project's response to the stored request, which is made once more."""
    envelope = opened(row)
    request = request_of(envelope, resumption, _user(envelope))
    adapt = conf.completer_request()
    if adapt:
        request = import_string(adapt)(request, record)
    with _open_transactions_left_alone():
        request_started.send(sender=BaseHandler, environ=request.META)
        response = _handler().get_response(request)
        # Sends request_finished.
        response.close()
    return response


@contextmanager
def _open_transactions_left_alone() -> Iterator[None]:
    """Django's signals of a request close no connection of this thread that is in a transaction.

    Their receiver stays connected: the requests of other threads need it.
    """
    ours = [vars(each) for each in connections.all(initialized_only=True) if each.in_atomic_block]
    # Not those of a completion around this one: a view may complete another operation.
    for attributes in (ours := [each for each in ours if _CLOSE not in each]):
        attributes[_CLOSE] = lambda: None
    try:
        yield
    finally:
        for attributes in ours:
            del attributes[_CLOSE]


def _take_up(using: str, row: IdempotencyEnvelope, *, give_up: bool) -> bool:
    """Count one more try, and set when the next is due; False if another completer was faster."""
    tries = row.tries + 1
    last = give_up and tries >= conf.completer_attempts()
    due_at = None if last else UtcNow() + _pause(tries)
    same = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk, tries=row.tries)
    return bool(same.update(tries=tries, due_at=due_at))


def _busy(using: str, row: IdempotencyEnvelope) -> Completed:
    """Take back the try that :func:`_take_up` counted: the operation is being run elsewhere."""
    due_at = UtcNow() + _pause(row.tries + 1)
    taken_up = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk, tries=row.tries + 1)
    taken_up.update(tries=row.tries, due_at=due_at)
    return Completed(row.pk, Completion.BUSY)


def _give_up(using: str, row: IdempotencyEnvelope, error: str) -> Completed:
    """Leave the operation to a person: no completer takes it up again by itself."""
    IdempotencyEnvelope.objects.using(using).filter(pk=row.pk).update(due_at=None, error=error)
    logger.error("operation %s is left to a person: %s", row.pk, error)
    return Completed(row.pk, Completion.GIVEN_UP, error)


def _closed(using: str, row: IdempotencyEnvelope, completion: Completion, error: str) -> Completed:
    """Delete the stored request: nothing is left to complete."""
    # By its time as well: when the key was recycled meanwhile, the new life has its own envelope.
    # By a range: SQLite compares texts, and Django writes whole seconds without a fraction.
    edge, later = row.created_at, row.created_at + timedelta(milliseconds=1)
    rows = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk)
    rows.filter(created_at__gte=edge, created_at__lt=later).delete()
    return Completed(row.pk, completion, error)


def complete(using: str, record_id: UUID) -> Completed:
    """One operation was taken up, due or not; what its view raises is not raised here."""
    row = IdempotencyEnvelope.objects.using(using).filter(pk=record_id).first()
    if row is None:
        return Completed(record_id, Completion.GONE)
    return _complete(using, row, give_up=False)


def _complete(using: str, row: IdempotencyEnvelope, *, give_up: bool) -> Completed:
    record = _record(using, row.pk)
    if record is None or record.is_erased:
        return _closed(using, row, Completion.GONE, "")
    if record.status == Status.COMPLETED:
        return _closed(using, row, Completion.COMPLETED, "")
    if not _take_up(using, row, give_up=give_up):
        return Completed(row.pk, Completion.BUSY)
    resumption = Resumption(_intent(record))
    try:
        # What is set for a request, its language or its URLs, ends with this context.
        response = copy_context().run(_respond, row, record, resumption)
    except _NobodyError:
        return _give_up(using, row, "its user is gone or not active")
    except UndecodableError as error:
        return _give_up(using, row, str(error))
    except Exception as error:
        # Not the view's error, which Django turns into a 500; the project's hook may raise, say.
        logger.exception("operation %s could not be taken up", row.pk)
        return _left(using, row, type(error).__name__)
    if resumption.refusal is not None:
        return _refused(using, row, resumption.refusal)
    return _outcome(using, row, resumption, response)


def _refused(using: str, row: IdempotencyEnvelope, error: IdempotencyError) -> Completed:
    """What follows when the layer refused the request before its view ran."""
    if isinstance(error, InProgressError):
        return _busy(using, row)
    name = type(error).__name__
    if isinstance(error, KeyErasedError):
        return _closed(using, row, Completion.GONE, name)
    return _left(using, row, name) if error.retry_after else _give_up(using, row, name)


def _record(using: str, record_id: UUID) -> IdempotencyRecord | None:
    records = IdempotencyRecord.objects.using(using).defer("response_body", "response_headers")
    return records.filter(pk=record_id).first()


def _outcome(
    using: str, row: IdempotencyEnvelope, resumption: Resumption, response: HttpResponseBase
) -> Completed:
    """What follows from the record after the request was made once more."""
    record = _record(using, row.pk)
    if record is None:
        return _closed(using, row, Completion.GONE, "")
    if record.status == Status.COMPLETED:
        return _closed(using, row, Completion.COMPLETED, "")
    error = record.error or f"HTTP {response.status_code}"
    if resumption.token is None:
        # The view did not run: a permission was taken away, say, or the URL is gone.
        return _left(using, row, f"HTTP {response.status_code}")
    if record.token != resumption.token or error in _NOT_OURS:
        return _busy(using, row)
    if error in FINAL_ERRORS:
        return _closed(using, row, Completion.FAILED, error)
    if response.status_code < 500 and error != OutcomeUnknownError.__name__:
        return _closed(using, row, Completion.REFUSED, error)
    return _left(using, row, error)


def _left(using: str, row: IdempotencyEnvelope, error: str) -> Completed:
    """Leave the operation for another try, or give up after the last."""
    rows = IdempotencyEnvelope.objects.using(using).filter(pk=row.pk)
    if rows.filter(due_at=None).exists():
        return _give_up(using, row, error)
    rows.update(error=error)
    logger.warning("operation %s is not finished yet: %s", row.pk, error)
    return Completed(row.pk, Completion.PENDING, error)


def complete_due(using: str = "", limit: int = BATCH_SIZE) -> Iterator[Completed]:
    """Each operation that is due is taken up, by one of all running completers; oldest first."""
    alias = using or router.db_for_write(IdempotencyRecord)
    due = IdempotencyEnvelope.objects.using(alias).filter(due_at__lte=UtcNow())
    for pk in list(due.order_by("due_at").values_list("pk", flat=True)[:limit]):
        row = due.filter(pk=pk).first()
        if row is not None:
            yield _complete(alias, row, give_up=True)


def forget_settings(**kwargs: Any) -> None:
    """The next operation sees the changed settings; receives ``setting_changed``."""
    _handler.cache_clear()


def complete_as_task(record_id: str, using: str) -> str:
    """One operation was taken up by a task queue; ``using`` may be empty. Its Completion."""
    alias = using or router.db_for_write(IdempotencyRecord)
    return complete(alias, UUID(record_id)).completion.value


def complete_due_as_task(using: str, limit: int) -> int:
    """What is due was taken up by a task queue; returns how many operations that were."""
    return sum(1 for _ in complete_due(using, limit))
