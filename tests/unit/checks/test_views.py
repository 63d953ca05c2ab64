"""``manage.py check`` looks at the views: where their doors are, and what they ask for."""

from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.decorators import login_required, permission_required
from django.core.checks import run_checks
from django.db import connections, transaction
from django.http import HttpResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from pytest_django import Settings

from django_idempotency.checks import views as view_checks
from django_idempotency.decorators import idempotent
from django_idempotency.views import IdempotencyMixin

# Django's own checks look into the databases.
pytestmark = pytest.mark.django_db(databases=["default", "other"])

Found = Callable[..., list[str]]


def view(request: Any) -> HttpResponse:
    """Any view."""
    return HttpResponse()


class Plain(View):
    """Any class."""

    def post(self, request: Any) -> HttpResponse:
        return HttpResponse()


@method_decorator(idempotent, name="post")
class Hidden(View):
    """A door that its callback does not show."""

    def post(self, request: Any) -> HttpResponse:
        return HttpResponse()


class Mixed(IdempotencyMixin, Plain):
    """A door that it does."""


@pytest.fixture
def found(settings: Settings) -> Found:
    """Our messages about a project with these views."""

    def messages(*views: Any) -> list[str]:
        urls: Any = ModuleType("checked_urls")
        inner = [path(f"{number}/", each) for number, each in enumerate(views)]
        urls.urlpatterns = [path("inner/", include(inner)), path("again/", views[0])]
        settings.ROOT_URLCONF = urls
        ids = [(message.id or "") for message in run_checks()]
        return [each for each in ids if each.startswith("django_idempotency.")]

    return messages


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """ATOMIC_REQUESTS, on the database of the records."""
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


def test_usual_doors_draw_no_message(found: Found, atomic_requests: None) -> None:
    """With ATOMIC_REQUESTS, too."""
    views = [view, idempotent(view), login_required(idempotent(view))]
    classes = [Mixed.as_view(), idempotent(Plain.as_view()), Plain.as_view()]
    assert found(*views, *classes) == []


def test_lease_longer_than_retention_draws_a_warning(found: Found) -> None:
    """W004, for each view once."""
    long = {"lease": timedelta(hours=2), "retention": timedelta(hours=1)}
    mixed = type("Long", (Mixed,), {f"idempotency_{name}": value for name, value in long.items()})
    assert found(idempotent(**long)(view), mixed.as_view()) == ["django_idempotency.W004"] * 2


def test_records_in_another_database_draw_a_warning(found: Found, atomic_requests: None) -> None:
    """W005."""
    assert found(idempotent(using="other")(view)) == ["django_idempotency.W005"]


def test_hidden_door_draws_a_warning_under_atomic_requests(
    found: Found, atomic_requests: None
) -> None:
    """W006; not where the project keeps the view apart."""
    apart = transaction.non_atomic_requests(Hidden.as_view())
    assert found(Hidden.as_view(), apart) == ["django_idempotency.W006"]


def test_hidden_door_is_fine_without_atomic_requests(found: Found) -> None:
    """There is nothing to join."""
    assert found(Hidden.as_view()) == []


@pytest.mark.drf
def test_door_below_api_view_is_hidden(found: Found, atomic_requests: None) -> None:
    """W006; above it is not."""
    from rest_framework.decorators import api_view

    below = api_view(["POST"])(idempotent(view))
    above = idempotent(api_view(["POST"])(view))
    assert found(below, above) == ["django_idempotency.W006"]


def test_door_above_login_draws_a_warning(found: Found) -> None:
    """W007: the reply to a stranger would be her redirect to the login, for a day."""
    assert found(idempotent(login_required(view))) == ["django_idempotency.W007"]


def asks_for_permission(function: Any) -> Any:
    """As it is written on a method."""
    return method_decorator(permission_required("shop.order", raise_exception=True))(function)


def test_door_above_the_permission_of_a_handler_draws_a_warning(found: Found) -> None:
    """W007: a door on the class covers the handler with its decorators."""

    class Above(Mixed):
        @asks_for_permission
        def post(self, request: Any) -> HttpResponse:
            return HttpResponse()

    class Below(View):
        @asks_for_permission
        @idempotent
        def post(self, request: Any) -> HttpResponse:
            return HttpResponse()

    class Uncovered(Mixed):
        @asks_for_permission
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse()

    assert found(Above.as_view()) == ["django_idempotency.W007"]
    assert found(login_required(Mixed.as_view())) == []
    assert found(Below.as_view()) == []
    assert found(Uncovered.as_view()) == []


class Slotted:
    """A callable view without a ``__dict__``."""

    __slots__ = ()

    def __call__(self, request: Any) -> HttpResponse:
        return HttpResponse()


def test_view_without_attributes_stops_no_check(found: Found) -> None:
    """With a door around it, and without."""
    assert found(idempotent(Slotted()), Slotted()) == []


def test_middleware_that_is_not_the_last_is_an_error(found: Found, settings: Settings) -> None:
    """E004."""
    ours = "django_idempotency.middleware.IdempotencyMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, ours]
    assert found(view) == []
    settings.MIDDLEWARE = [ours, "django.middleware.csrf.CsrfViewMiddleware"]
    assert found(view) == ["django_idempotency.E004"]


def test_wrong_option_of_as_view_is_an_error(found: Found) -> None:
    """E007; the other views are looked at all the same."""
    wrong = Mixed.as_view(idempotency_lease=60)
    long = idempotent(lease=timedelta(hours=2), retention=timedelta(hours=1))(view)
    assert sorted(found(wrong, long)) == ["django_idempotency.E007", "django_idempotency.W004"]


def test_project_without_urls_is_looked_at(settings: Settings) -> None:
    """A worker's settings may name none."""
    del settings.ROOT_URLCONF
    assert list(view_checks.check_accepting_views(None)) == []


def test_coroutines_are_no_matter_of_transactions(found: Found, atomic_requests: None) -> None:
    """They commit by themselves."""

    async def coroutine(request: Any) -> HttpResponse:
        return HttpResponse()

    kept_apart = transaction.non_atomic_requests(idempotent(using="other")(coroutine))
    assert found(kept_apart) == []


@pytest.mark.parametrize(
    ("limit", "backend", "expected"),
    [
        (3, "locmem.LocMemCache", ["django_idempotency.W010"]),
        (3, "dummy.DummyCache", ["django_idempotency.W010"]),
        (3, "redis.RedisCache", []),
        (None, "locmem.LocMemCache", []),
    ],
)
def test_quota_that_each_process_counts_for_itself_draws_a_warning(
    limit: int | None, backend: str, expected: list[str], found: Found, settings: Settings
) -> None:
    """W010, in deployments: a developer's only process is enough."""
    settings.CACHES = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    assert found(idempotent(max_keys_per_scope=limit)(view)) == []
    ids = {message.id for message in view_checks.check_quotas(None)}
    assert sorted(map(str, ids)) == expected
