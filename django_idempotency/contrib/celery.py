"""The clean-up and the completer as Celery tasks; list this module in Celery's ``imports``."""

from uuid import UUID

from celery import shared_task

from ..durable.completer import BATCH_SIZE as COMPLETED_AT_ONCE
from ..durable.completer import complete_as_task, complete_due_as_task
from ..maintenance.cleanup import BATCH_SIZE, clean_up_as_task


@shared_task(name="django_idempotency.cleanup", ignore_result=True)
def cleanup(using: str = "", batch_size: int = BATCH_SIZE, limit: int | None = None) -> int:
    """Delete expired records; returns how many were deleted."""
    return clean_up_as_task(using, batch_size, limit)


@shared_task(name="django_idempotency.complete", ignore_result=True)
def complete(record_id: str, using: str = "") -> str:
    """Finish one operation; returns the name of the result."""
    return complete_as_task(record_id, using)


@shared_task(name="django_idempotency.complete_due", ignore_result=True)
def complete_due(using: str = "", limit: int = COMPLETED_AT_ONCE) -> int:
    """Finish the operations that are due; returns how many were tried."""
    return complete_due_as_task(using, limit)


def enqueue(record_id: UUID, using: str) -> None:
    """Enqueue an accepted operation; for the setting ``IDEMPOTENCY_ENQUEUE``."""
    complete.delay(str(record_id), using)
