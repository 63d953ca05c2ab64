"""The inner one of several doors decides, also where REST framework hides it."""

from types import ModuleType
from typing import Any

import pytest
from django.urls import path
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.views import kitchen
from tests.conftest import Post

# It adds what the kitchen answers to REST framework.
pytest.importorskip("tests.app.api")
from rest_framework.decorators import api_view

pytestmark = [pytest.mark.drf, pytest.mark.django_db]


@pytest.fixture
def serve(settings: Settings) -> Any:
    """Serve a view with a door below ``@api_view`` and one above, the inner with these options."""

    def serving(**options: Any) -> None:
        @api_view(["POST"])
        @idempotent(**options)
        def view(request: Any) -> Any:
            return kitchen(request)

        urls: Any = ModuleType("twice_urls")
        urls.urlpatterns = [path("twice/", idempotent(view))]
        settings.ROOT_URLCONF = urls

    return serving


def test_option_below_api_view_counts(serve: Any, post: Post) -> None:
    """The inner door wins, though the outer one covers the request."""
    serve(required=True)
    assert post("/twice/").status_code == 400
    assert effects.count() == 0


def test_view_can_opt_out_below_api_view(serve: Any, post: Post, key: str) -> None:
    """No door outside of it covers it then."""
    serve(methods=())
    replies = [post("/twice/", key) for _ in range(2)]
    assert effects.count() == 2
    assert not IdempotencyRecord.objects.exists()
    assert replies[0].content != replies[1].content


def test_one_claim_for_both_doors(serve: Any, post: Post, key: str) -> None:
    """The second request is a replay."""
    serve()
    replies = [post("/twice/", key) for _ in range(2)]
    assert effects.count() == IdempotencyRecord.objects.count() == 1
    assert replies[0].content == replies[1].content
