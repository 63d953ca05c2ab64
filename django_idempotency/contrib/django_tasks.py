"""The clean-up and the completer as tasks of ``django.tasks`` (Django 6.0) or of its backport.

Without either, this module is empty.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from ..durable.completer import BATCH_SIZE as COMPLETED_AT_ONCE
from ..durable.completer import complete_as_task, complete_due_as_task
from ..maintenance.cleanup import BATCH_SIZE, clean_up_as_task

if TYPE_CHECKING:
    from django.tasks import task
else:
    try:
        from django.tasks import task
    except ImportError:
        try:
            from django_tasks import task
        except ImportError:
            task = None

if task is not None:

    @task
    def cleanup(using: str = "", batch_size: int = BATCH_SIZE, limit: int | None = None) -> int:
        """Delete expired records; returns how many were deleted."""
        return clean_up_as_task(using, batch_size, limit)

    @task
    def complete(record_id: str, using: str = "") -> str:
        """Finish one operation; returns the name of the result."""
        return complete_as_task(record_id, using)

    @task
    def complete_due(using: str = "", limit: int = COMPLETED_AT_ONCE) -> int:
        """Finish the operations that are due; returns how many were tried."""
        return complete_due_as_task(using, limit)

    def enqueue(record_id: UUID, using: str) -> None:
        """Enqueue an accepted operation; for the setting ``IDEMPOTENCY_ENQUEUE``."""
        complete.enqueue(str(record_id), using)
