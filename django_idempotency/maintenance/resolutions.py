"""What a person found out about a call that nobody else could tell of, on the record.

It is one transaction that holds the record, so that a request which comes at the same moment finds
the step as it was, or as it is now.
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..codecs import encode
from ..models import IdempotencyRecord, IdempotencyStep, Status, StepStatus, UtcNow
from ..monitoring.events import Kind
from ..protocol.rules import seems_dead
from ..storage.upkeep import Upkeep
from ..storage.values import Found
from .records import BY_HAND, tell_of

#: What ``error`` says of a step whose outcome a person told.
SETTLED_BY_HAND = "SettledByHand"
#: Those whose outcome nobody knows once their attempt is over.
IN_DOUBT = (StepStatus.STARTED, StepStatus.UNKNOWN)
# SQLite has one lock for everything: whoever holds it need not be this record's owner.
_WRITER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Doubt:
    """A step whose outcome nobody knows, as a person saw it: its primary key, and its runs."""

    record: uuid.UUID
    step: int
    attempt: int


class Settled(Enum):
    """What came of the wish to say how a step ended."""

    DONE = "done"
    GONE = "gone"
    FINISHED = "finished"
    CERTAIN = "certain"
    RUNNING = "running"

    @property
    def reason(self) -> str | Promise:
        """The same in words, for a person."""
        return _SETTLED_REASONS[self]


_SETTLED_REASONS: dict[Settled, str | Promise] = {
    Settled.DONE: _("It is settled."),
    Settled.GONE: _("There is no such step any more."),
    Settled.FINISHED: _("Its operation is finished."),
    Settled.CERTAIN: _("Its outcome is known by now, or it has been run again since."),
    Settled.RUNNING: _("Somebody runs its operation, or is still trusted to."),
}


def settle(store: Upkeep, doubt: Doubt, *, output: bytes | None) -> Settled:
    """Record what a person found out about a step, while nobody runs its operation.

    With ``output``, in JSON, it was done and had that result; without, it was not done, and the
    next attempt runs it. An owner that is dead is released as :func:`release` does it.
    """
    found = store.read(doubt.record)
    if found is None:
        return Settled.GONE
    if found.status is Status.COMPLETED:
        return Settled.FINISHED
    if found.status is Status.IN_PROGRESS and not seems_dead(found, store.dialect.grace):
        return Settled.RUNNING
    try:
        with _briefly(store):
            _hold(store, doubt.record, found)
            _tell_outcome(store, doubt, _outcome(output))
    except _RefusedError as refusal:
        return refusal.settled
    except DatabaseError as error:
        if not (store.dialect.is_locked(error) or store.dialect.is_lost(error)):
            raise
        return Settled.RUNNING
    if found.status is Status.IN_PROGRESS:
        tell_of(Kind.RELEASED, store, [doubt.record], error=BY_HAND)
    return Settled.DONE


class _RefusedError(Exception):
    """Nothing is to be written; what was is rolled back."""

    def __init__(self, settled: Settled) -> None:
        super().__init__(settled)
        self.settled = settled


def _outcome(output: bytes | None) -> dict[str, Any]:
    """The columns of a settled step."""
    common = {"error": SETTLED_BY_HAND, "completed_at": None}
    if output is None:
        return common | {"status": StepStatus.RETRYING}
    encoded, codec = encode(output)
    done = {"status": StepStatus.COMPLETED, "completed_at": UtcNow()}
    return common | done | {"output": encoded, "codec": codec}


@contextmanager
def _briefly(store: Upkeep) -> Iterator[None]:
    """A transaction that waits for nobody who holds the record."""
    # Where rows are locked it is a statement that waits, else the transaction as it begins.
    waiting = nullcontext() if store.dialect.skips_locked else _waiting(store)
    with waiting, transaction.atomic(using=store.alias):
        yield


def _waiting(store: Upkeep) -> AbstractContextManager[None]:
    seconds = 0.0 if store.dialect.skips_locked else _WRITER_SECONDS
    return store.dialect.waiting(store.connection, seconds)


def _hold(store: Upkeep, record: uuid.UUID, found: Found) -> None:
    """Keep everybody from running it until the transaction ends, if it is as ``found``."""
    if found.status is Status.IN_PROGRESS:
        is_ours = store.free(record, found, BY_HAND)
    else:
        records = IdempotencyRecord.objects.using(store.alias)
        same = records.filter(pk=record, token=found.token, status=found.status)
        with _waiting(store):
            is_ours = same.update(error=F("error")) == 1
    if not is_ours:
        raise _RefusedError(Settled.RUNNING)


def _tell_outcome(store: Upkeep, doubt: Doubt, outcome: Mapping[str, Any]) -> None:
    steps = IdempotencyStep.objects.using(store.alias).filter(pk=doubt.step, record=doubt.record)
    if not steps.filter(attempt=doubt.attempt, status__in=IN_DOUBT).update(**outcome):
        raise _RefusedError(Settled.CERTAIN if steps.exists() else Settled.GONE)
