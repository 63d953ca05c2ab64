"""The test app's URLs, and views that only crashes need."""

import json
from typing import Any

from django.db import transaction
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.app import urls, views
from tests.app.models import Order


@transaction.atomic
@idempotent
def inside(request: Any) -> Any:
    """The door stands inside a caller's transaction."""
    return views.kitchen(request)


@idempotent
def both(request: Any) -> Any:
    """The same order in the other database, too."""
    response = views.kitchen(request)
    Order.objects.using("other").create(nonce=json.loads(response.content)["nonce"])
    return response


urlpatterns = [*urls.urlpatterns, path("inside/", inside), path("both/", both)]
