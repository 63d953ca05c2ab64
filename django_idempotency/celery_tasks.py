"""The clean-up as a task of Celery, for ``imports`` in its configuration."""

from celery import shared_task
from django.db import router

from .maintenance import BATCH_SIZE, Sweep, clean_up
from .models import IdempotencyRecord
from .upkeep import Upkeep


@shared_task(name="django_idempotency.cleanup", ignore_result=True)
def cleanup(using: str = "", batch_size: int = BATCH_SIZE, limit: int | None = None) -> int:
    """Delete the records that answer no more; how many it were."""
    alias = using or router.db_for_write(IdempotencyRecord)
    return clean_up(Upkeep(alias), Sweep(batch_size=batch_size, limit=limit)).deleted
