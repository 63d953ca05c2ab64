"""The mixin's options: attributes, methods, ``as_view()``."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from tests.unit.test_policy import WRONG, scope_for_tests

pytest.importorskip("rest_framework")
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin


@pytest.mark.parametrize(("option", "value"), WRONG.items(), ids=WRONG)
def test_wrong_attribute_fails_at_import(option: str, value: Any) -> None:
    """The mixin checks its options when the class is made."""
    with pytest.raises(ImproperlyConfigured, match=option):
        type("Orders", (IdempotencyMixin, APIView), {f"idempotency_{option}": value})


def test_callable_attributes_are_not_bound() -> None:
    """``idempotency_scope = function`` is an option, not a method."""

    class Orders(IdempotencyMixin, APIView):
        idempotency_scope = scope_for_tests
        idempotency_keep_response = staticmethod(lambda response: True)

    options = Orders().get_idempotency_options()
    assert options["scope"] is scope_for_tests
    assert options["keep_response"](None) is True


def test_method_overrides_the_option() -> None:
    """``get_idempotency_scope(self, request)`` is called on its view."""

    class Orders(IdempotencyMixin, APIView):
        def get_idempotency_scope(self, request: HttpRequest) -> str:
            return type(self).__name__

    assert Orders().get_idempotency_options()["scope"](None) == "Orders"


def test_as_view_may_give_an_option() -> None:
    """The attribute of an instance counts, and is checked."""

    class Orders(IdempotencyMixin, APIView):
        """A class without options."""

    assert Orders(idempotency_required=True).get_idempotency_options()["required"] is True
    with pytest.raises(ImproperlyConfigured):
        Orders(idempotency_required="yes").get_idempotency_options()
