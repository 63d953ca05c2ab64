"""The clean-up as a task of Celery, for ``imports`` in its configuration."""

from celery import shared_task

from .maintenance import BATCH_SIZE, clean_up_as_task


@shared_task(name="django_idempotency.cleanup", ignore_result=True)
def cleanup(using: str = "", batch_size: int = BATCH_SIZE, limit: int | None = None) -> int:
    """Delete the records that answer no more; how many it were."""
    return clean_up_as_task(using, batch_size, limit)
