"""The test app's doors, and those that meet faults."""

from importlib.util import find_spec
from typing import Any

from django.urls import path

from tests.app import urls
from tests.faults import views

DOORS: dict[str, Any] = dict(views.PLAIN)

if find_spec("rest_framework"):
    from tests.faults import api

    DOORS |= api.API

urlpatterns = [*urls.urlpatterns, *(path(f"{name}/", view) for name, view in DOORS.items())]


def there(*doors: str) -> list[str]:
    """Those of the given doors that exist in this run."""
    return [door for door in doors if door.strip("/") in DOORS]
