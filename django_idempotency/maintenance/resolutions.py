"""A person records how a step ended, where no program could know.

One transaction locks the record meanwhile, so a request that comes at the same moment finds the
step either in doubt or resolved.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import F, TextChoices
from django.utils.translation import gettext_lazy as _

from ..codecs import encode
from ..models import IdempotencyRecord, IdempotencyStep, Status, StepStatus, UtcNow
from ..monitoring.events import Kind
from ..protocol.rules import seems_dead
from ..storage.upkeep import Upkeep
from ..storage.values import Found
from .records import BY_HAND, tell_of

#: The ``error`` of a step whose outcome a person recorded.
RESOLVED_BY_HAND = "ResolvedByHand"
#: The statuses whose outcome is unknown once the attempt is over.
IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)
# SQLite has one lock for all writers, so the one that holds it need not be this record's owner.
_WRITER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A step in doubt as the person saw it: its primary key, and how often it had run."""

    record: uuid.UUID
    step: int
    attempt: int


class Resolved(TextChoices):
    """Whether a step was resolved, or why not."""

    DONE = "done", _("It is settled.")
    GONE = "gone", _("There is no such step any more.")
    FINISHED = "finished", _("Its operation is finished.")
    CERTAIN = "certain", _("Its outcome is known by now, or it has been run again since.")
    RUNNING = "running", _("Somebody runs its operation, or is still trusted to.")


def resolve(store: Upkeep, doubt: Doubt, *, output: bytes | None) -> Resolved:
    """Record what a person found out about a step, unless its operation is running.

    ``output`` is the step's result in JSON; None says that the step was not done, and the next
    attempt runs it. The claim of a dead owner is released, as by
    :func:`~django_idempotency.maintenance.records.release`.
    """
    found = store.read(doubt.record)
    if found is None:
        return Resolved.GONE
    if found.status is Status.COMPLETED:
        return Resolved.FINISHED
    if found.status is Status.IN_PROGRESS and not seems_dead(found, store.dialect.grace):
        return Resolved.RUNNING
    try:
        with _briefly(store):
            _lock(store, doubt.record, found)
            _record(store, doubt, _outcome(output))
    except _RefusedError as refusal:
        return refusal.resolved
    except DatabaseError as error:
        if not (store.dialect.is_locked(error) or store.dialect.is_lost(error)):
            raise
        return Resolved.RUNNING
    if found.status is Status.IN_PROGRESS:
        tell_of(Kind.RELEASED, store, [doubt.record], error=BY_HAND)
    return Resolved.DONE


class _RefusedError(Exception):
    """Rolls the transaction back; ``resolved`` says why."""

    def __init__(self, resolved: Resolved) -> None:
        super().__init__(resolved)
        self.resolved = resolved


def _outcome(output: bytes | None) -> dict[str, Any]:
    """The columns of a resolved step."""
    common = {"error": RESOLVED_BY_HAND, "completed_at": None}
    if output is None:
        return common | {"status": StepStatus.RETRYING}
    encoded, codec = encode(output)
    done = {"status": StepStatus.COMPLETED, "completed_at": UtcNow()}
    return common | done | {"output": encoded, "codec": codec}


@contextmanager
def _briefly(store: Upkeep) -> Iterator[None]:
    """A transaction that does not wait for a locked record."""
    # Where there are row locks, the statement would wait; elsewhere, BEGIN would.
    waiting = nullcontext() if store.dialect.skips_locked else _waiting(store)
    with waiting, transaction.atomic(using=store.alias):
        yield


def _waiting(store: Upkeep) -> AbstractContextManager[None]:
    seconds = 0.0 if store.dialect.skips_locked else _WRITER_SECONDS
    return store.dialect.waiting(store.connection, seconds)


def _lock(store: Upkeep, record: uuid.UUID, found: Found) -> None:
    """Lock the record until the transaction ends, if it is still as ``found``."""
    if found.status is Status.IN_PROGRESS:
        is_locked = store.free(record, found, BY_HAND)
    else:
        records = IdempotencyRecord.objects.using(store.alias)
        same = records.filter(pk=record, token=found.token, status=found.status)
        with _waiting(store):
            is_locked = same.update(error=F("error")) == 1
    if not is_locked:
        raise _RefusedError(Resolved.RUNNING)


def _record(store: Upkeep, doubt: Doubt, outcome: Mapping[str, Any]) -> None:
    steps = IdempotencyStep.objects.using(store.alias).filter(pk=doubt.step, record=doubt.record)
    if not steps.filter(attempt=doubt.attempt, status__in=IN_DOUBT).update(**outcome):
        raise _RefusedError(Resolved.CERTAIN if steps.exists() else Resolved.GONE)
