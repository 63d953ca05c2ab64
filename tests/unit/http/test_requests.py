"""Django's request behind other objects, and what the package keeps on it."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.http import HttpRequest

from django_idempotency.http.requests import http_request, state_of


@pytest.mark.drf
def test_request_of_rest_framework_shares_the_state_of_django_s() -> None:
    """A door outside of a view and one inside of it write to the same state."""
    from rest_framework.request import Request

    plain = HttpRequest()
    assert http_request(Request(plain)) is plain
    assert state_of(Request(plain)) is state_of(plain)


def test_requests_have_states_of_their_own() -> None:
    """Nothing of one request is found on another."""
    first, second = HttpRequest(), HttpRequest()
    state_of(first).entered = "a view"
    assert state_of(second).entered is None


def test_object_that_keeps_a_request_is_no_request() -> None:
    """Only REST framework's request stands for the one inside of it."""
    service: Any = SimpleNamespace(_request=HttpRequest())
    assert http_request(service) is service
