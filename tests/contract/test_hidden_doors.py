"""Doors that the URL's callback hides, in a process that has not served them yet."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.app.views import kitchen
from tests.conftest import Post, atomic_requests_on

pytest.importorskip("tests.app.api")
from rest_framework.decorators import api_view
from rest_framework.views import APIView

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def _below_api_view() -> Any:
    @api_view(["GET", "POST"])
    @idempotent
    def below(request: Any) -> Any:
        return kitchen(request)

    return below


def _on_a_method(base: type[View]) -> Any:
    def handler(self: View, request: Any) -> Any:
        return kitchen(request)

    fresh = type("Fresh", (base,), {"get": handler, "post": handler})
    decorate = cast(Any, method_decorator)
    return decorate(idempotent, name="post")(fresh).as_view()


@pytest.fixture(params=["api_view", "method", "api-method"])
def hidden(request: pytest.FixtureRequest, settings: Settings) -> str:
    """The path of a door that no request has come through."""
    makers: dict[str, Callable[[], Any]] = {
        "api_view": _below_api_view,
        "method": lambda: _on_a_method(View),
        "api-method": lambda: _on_a_method(APIView),
    }
    view = makers[request.param]()
    urls: Any = ModuleType("hidden_urls")
    urls.urlpatterns = [path("hidden/", view)]
    settings.ROOT_URLCONF = urls
    return "/hidden/"


def test_requests_are_protected_inside_django_s_transaction(hidden: str, post: Post) -> None:
    """The claim joins the transaction in the first request and in later ones."""
    with atomic_requests_on("default"):
        for expected in (1, 2):
            key = uuid.uuid4().hex
            replies = [post(hidden, key) for _ in range(2)]
            assert Order.objects.count() == effects.count() == expected
            assert replies[0].content == replies[1].content


def test_methods_that_are_not_covered_keep_their_transaction(
    hidden: str, post: Post, client: Any
) -> None:
    """A GET that fails leaves nothing, before and after the first covered request."""
    client.raise_request_exception = False
    with atomic_requests_on("default"):
        for _ in range(2):
            assert client.get(f"{hidden}?act=crash").status_code == 500
            assert not Order.objects.exists()
            post(hidden, act="crash")


def test_several_databases_refuse_the_first_request_only(hidden: str, key: str, post: Post) -> None:
    """A joined claim would not commit last, so nothing runs; the retry runs."""
    with atomic_requests_on("default", "other"):
        refused = post(hidden, key)
        assert effects.count() == 0
        assert refused.status_code == 503
        assert refused["Retry-After"] == "1"
        assert post(hidden, key, act="homeless_elsewhere").status_code == 500
        assert not Order.objects.exists()
        replies = [post(hidden, key) for _ in range(2)]
    assert Order.objects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"
    assert IdempotencyRecord.objects.count() == 1


def test_methods_that_are_not_covered_keep_their_transactions_after_the_refusal(
    hidden: str, key: str, post: Post, client: Any
) -> None:
    """Django opens none after that; the class's dispatch does."""
    client.raise_request_exception = False
    with atomic_requests_on("default", "other"):
        assert post(hidden, key).status_code == 503
        assert client.get(f"{hidden}?act=crash").status_code == 500
    assert not Order.objects.exists()


def unseen(view: Any) -> Any:
    """A decorator without ``functools.wraps``."""

    def bare(request: Any, *args: Any, **kwargs: Any) -> Any:
        return view(request, *args, **kwargs)

    return bare


@pytest.mark.parametrize(
    "options",
    [
        {"required": True},
        {"scope": lambda request: "tenant"},
        {"methods": ()},
        {"fingerprint": lambda request: b""},
        {"atomic": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_of_a_door_that_another_cannot_see_are_not_ignored(options: Any, key: str) -> None:
    """They are refused in words, and nothing is left."""

    def inner(request: Any) -> HttpResponse:
        raise AssertionError("the view runs under other options than its own")

    door = idempotent(unseen(idempotent(**options)(inner)))
    request = RequestFactory().post("/", headers={"Idempotency-Key": key})
    request.user = User.objects.create(username="alice")
    with pytest.raises(ImproperlyConfigured, match=next(iter(options))):
        door(request)
    assert not IdempotencyRecord.objects.filter(status=Status.COMPLETED).exists()


def test_bare_door_that_another_cannot_see_passes_the_request_through(key: str) -> None:
    """It asks for nothing that the outer one does not give."""
    inner: Any = idempotent(lambda request: HttpResponse())
    door = idempotent(retention=timedelta(days=2))(unseen(inner))
    request = RequestFactory().post("/", headers={"Idempotency-Key": key})
    request.user = User.objects.create(username="alice")
    assert door(request).status_code == 200
    assert IdempotencyRecord.objects.get().status == Status.COMPLETED


def test_second_view_of_a_request_never_gets_the_reply_of_the_first(key: str) -> None:
    """One key is one operation: the error says so. Without a key both run."""
    first: Any = idempotent(lambda request: HttpResponse("reserved"))
    second: Any = idempotent(lambda request: HttpResponse("paid"))

    def both(request: Any) -> bytes:
        return bytes(first(request).content + second(request).content)

    assert both(RequestFactory().post("/")) == b"reservedpaid"
    request = RequestFactory().post("/", headers={"Idempotency-Key": key})
    request.user = User.objects.create(username="alice")
    with pytest.raises(ImproperlyConfigured, match="one key"):
        both(request)


def test_same_view_may_be_called_twice_with_one_request(key: str) -> None:
    """As tests of a project may do it: the second call is a replay."""
    view: Any = idempotent(lambda request: HttpResponse(uuid.uuid4().hex))
    request = RequestFactory().post("/", headers={"Idempotency-Key": key})
    request.user = User.objects.create(username="alice")
    assert view(request).content == view(request).content
