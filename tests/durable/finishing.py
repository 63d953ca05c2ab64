"""Two ways to finish an order that was cut off: its client asks again, or a completer runs."""

import time
from collections.abc import Callable
from uuid import UUID

from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from django_idempotency.durable.completer import Completion, complete
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
)
from tests.support.patience import until

from .victim import Reply, Request

Finish = Callable[[Request], Reply]

# In a storm an operation may be taken up in vain six times, after which it waits for a minute.
_PATIENCE_SECONDS = 150.0
# In progress, of unknown outcome for now, not finished yet: come again.
_NOT_YET = (409, 503)


def let_the_lease_run_out() -> None:
    """From now on, dead workers are known to be dead."""
    running = IdempotencyRecord.objects.filter(status=Status.IN_PROGRESS)
    running.update(lease_expires_at=Now())


def by_the_client(request: Request) -> Reply:
    """The final reply, asked for by a client that retries as the refusals say."""
    let_the_lease_run_out()

    def final() -> Reply | None:
        reply = request.send()
        assert reply.is_final or reply.status in _NOT_YET, reply
        return reply if reply.is_final else None

    return until(final, "the operation is stuck")


def by_the_completer(request: Request) -> Reply:
    """The same after a completer has run: its result is the reply.

    Only the client can repeat an order whose worker died before the request was stored.
    """
    let_the_lease_run_out()
    run_the_completer()
    return by_the_client(request)


def run_the_completer() -> list[Completion]:
    """What comes of everything that is stored."""
    rows = IdempotencyEnvelope.objects.values_list("pk", flat=True)
    return [_completed(pk) for pk in rows]


def _completed(pk: UUID) -> Completion:
    def done() -> Completion | None:
        # On SQLite any other writer, the statistics' for one, makes it look busy.
        completion = complete("default", pk).completion
        return None if completion is Completion.BUSY else completion

    return until(done, "the operation stays busy")


#: Where a worker is killed before something the client finishes its order, and where it is killed
#: after it the completer does: between two boundaries nothing lies, so both do everywhere.
FINISH: dict[str, Finish] = {"before": by_the_client, "after": by_the_completer}


def unfinished() -> int:
    """How many operations are neither finished nor free of work.

    A worker that died right after its claim has recorded no step and stored no request: the key
    waits for its client, as if the request had never arrived.
    """
    begun = Exists(IdempotencyStep.objects.filter(record=OuterRef("pk")))
    stored = Exists(IdempotencyEnvelope.objects.filter(record=OuterRef("pk")))
    records = IdempotencyRecord.objects.exclude(status=Status.COMPLETED)
    return records.filter(begun | stored).count()


def seconds_until_all_is_finished() -> float:
    """The seconds that the completers need without any client."""
    began = time.monotonic()
    while unfinished() or IdempotencyEnvelope.objects.exists():
        assert time.monotonic() - began < _PATIENCE_SECONDS, f"{unfinished()} are not finished"
        time.sleep(0.05)
    return time.monotonic() - began
