"""What doors find behind a view, and what they leave on it."""

import functools
from types import ModuleType
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path
from django.views import View
from django.views.decorators.cache import never_cache
from pytest_django import Settings

from django_idempotency.checks.views import check_leases
from django_idempotency.decorators import idempotent
from django_idempotency.doors.marks import bound_method, is_dispatch, mark_of, view_class_of
from tests.app.models import Order


class Counter(View):
    """A view class."""

    def post(self, request: Any) -> HttpResponse:
        return HttpResponse()


def _labelled(request: Any) -> HttpResponse:
    return HttpResponse()


vars(_labelled)["cls"] = Order


@pytest.mark.parametrize(
    ("callback", "expected"),
    [(Counter.as_view(), Counter), (never_cache(Counter.as_view()), Counter), (_labelled, None)],
    ids=["as_view", "decorated", "labelled"],
)
def test_class_of_a_callback_is_a_view_class(callback: Any, expected: Any) -> None:
    """An attribute of the same name may hold anything else."""
    assert view_class_of(callback) is expected


def test_checks_pass_over_a_function_with_a_class(settings: Settings) -> None:
    """Such a function view has no door, so there is nothing to say of it."""
    urls: Any = ModuleType("labelled_urls")
    urls.urlpatterns = [path("labelled/", _labelled)]
    settings.ROOT_URLCONF = urls
    assert list(check_leases(None)) == []


def test_bound_method_is_found_below_decorators() -> None:
    """``method_decorator`` hands over a partial that other decorators may be around."""
    view = Counter()
    handed = functools.wraps(Counter.post)(functools.partial(view.post))
    found = bound_method(never_cache(handed))
    assert found is not None
    assert found.__self__ is view
    assert bound_method(_labelled) is None


def test_dispatch_is_known_by_identity() -> None:
    """A function called ``dispatch`` is one only for the class that has it."""

    def dispatch(request: Any) -> HttpResponse:
        return HttpResponse()

    assert is_dispatch(Counter(), View.dispatch)
    assert not is_dispatch(Counter(), dispatch)
    assert not is_dispatch(object(), View.dispatch)


def test_subclass_of_a_callable_s_class_is_asked_for_its_own_call() -> None:
    """The door on a method that the subclass has replaced says nothing about it."""

    class Covered:
        @idempotent(required=True)
        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse()

    class Replaced(Covered):
        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse()

    assert mark_of(Covered()).options == {"required": True}
    assert mark_of(Replaced()).options is None
