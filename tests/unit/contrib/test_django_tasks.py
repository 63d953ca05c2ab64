"""The clean-up as a task of Django's own."""

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from tests.unit.management import count, make

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

HAS_TASKS = find_spec("django.tasks") or find_spec("django_tasks")


@pytest.fixture
def task(settings: Any) -> Any:
    """Django's task, run immediately."""
    if not HAS_TASKS:
        pytest.skip("needs Django 6.0 or django-tasks")
    package = "django.tasks" if find_spec("django.tasks") else "django_tasks"
    settings.TASKS = {"default": {"BACKEND": f"{package}.backends.immediate.ImmediateBackend"}}
    from django_idempotency.contrib.django_tasks import cleanup

    return cleanup


def test_django_s_task_deletes_what_is_expired(task: Any) -> None:
    """It returns how many records it deleted."""
    make(3)
    result = task.enqueue()
    assert (result.is_finished, result.return_value, count()) == (True, 3, 0)


def test_django_s_task_takes_arguments(task: Any) -> None:
    """All of them can be written as JSON."""
    make(3)
    make(5, using="other")
    assert task.enqueue(using="other", batch_size=2, limit=4).return_value == 4
    assert count() == 3


def test_module_of_tasks_can_be_imported_without_them() -> None:
    """On every version of Django, with or without the backport."""
    script = (
        "import sys, django; sys.modules.update({'django.tasks': None, 'django_tasks': None});"
        " django.setup(); from django_idempotency.contrib import django_tasks as tasks;"
        " print(hasattr(tasks, 'cleanup'))"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert (shown.stdout, shown.stderr) == ("False\n", "")
