"""The clean-up as a task of Celery."""

from typing import Any

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.unit.management import count, make

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@pytest.fixture
def celery_app() -> Any:
    """An application with a broker in memory, configured as the documentation says."""
    celery = pytest.importorskip("celery")
    app = celery.Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=True)
    app.conf.imports = ["django_idempotency.contrib.celery"]
    app.loader.import_default_modules()
    # A receiver of this signal keeps Celery from changing pytest's logging.
    celery.signals.setup_logging.connect(_leave_logging_alone)
    return app


def _leave_logging_alone(**kwargs: Any) -> None:
    """The receiver, which does nothing."""


def test_worker_of_celery_deletes_what_is_expired(celery_app: Any) -> None:
    """The task goes through the broker, and cleans the database that it is given."""
    from celery.contrib.testing.worker import start_worker

    make(2)
    make(5, using="other")
    task = celery_app.tasks["django_idempotency.cleanup"]
    with start_worker(celery_app, perform_ping_check=False):
        sent = [task.apply_async(ignore_result=False)]
        sent.append(task.apply_async(["other"], {"batch_size": 2, "limit": 4}, ignore_result=False))
        assert [result.get(timeout=20) for result in sent] == [2, 4]
    assert count() == 0
    assert IdempotencyRecord.objects.using("other").count() == 1
