"""The clean-up as a task of ``django.tasks`` (Django 6.0), or of django-tasks, its backport.

Without either there is nothing here, and importing this is no error: Celery looks for a module of
this name in every app.
"""

from typing import TYPE_CHECKING

from .maintenance import BATCH_SIZE, clean_up_as_task

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
        """Delete the records that answer no more; how many it were."""
        return clean_up_as_task(using, batch_size, limit)
