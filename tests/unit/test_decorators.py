"""A door looks at the object that it was put on, and not at its name."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.storage.records import Store
from django_idempotency.views import IdempotencyMixin
from tests.app import effects
from tests.app.aviews import akitchen
from tests.app.models import Order
from tests.app.views import kitchen
from tests.conftest import Post, atomic_requests_on

pytestmark = pytest.mark.django_db(transaction=True)

MIDDLEWARE = "django_idempotency.middleware.IdempotencyMiddleware"


@idempotent
def dispatch(request: Any) -> Any:
    """A function view with the name of a class's method."""
    return kitchen(request)


def _coroutine() -> Any:
    @idempotent
    async def dispatch(request: Any) -> Any:
        return await akitchen(request)

    return dispatch


class Bus:
    """Not a view, but its methods take requests."""

    @idempotent
    def dispatch(self, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    async def adispatch(self, request: Any) -> Any:
        return await akitchen(request)


class Mailbox:
    """Its ``dispatch`` takes no request at all."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def dispatch(self, *letters: str) -> list[str]:
        self.sent.extend(letters)
        return self.sent

    @idempotent
    def receive(self, request: Any) -> Any:
        self.dispatch("a letter")
        return kitchen(request)


class Namespace:
    """Functions that are kept in a class."""

    @staticmethod
    @idempotent
    def below(request: Any) -> Any:
        return kitchen(request)

    @idempotent
    @staticmethod
    def above(request: Any) -> Any:
        return kitchen(request)

    @classmethod
    @idempotent
    def of_class(cls, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    @classmethod
    def above_of_class(cls, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    def plain(request: Any) -> Any:
        return kitchen(request)

    of_lambda = idempotent(lambda request: kitchen(request))

    def make(self) -> Any:
        @idempotent
        def view(request: Any) -> Any:
            return kitchen(request)

        return view


class Service:
    """An object that keeps a request under the name REST framework uses."""

    def __init__(self, request: Any) -> None:
        self._request = request

    @idempotent
    def run(self, request: Any) -> Any:
        return kitchen(request)


class Instance:
    """A callable instance."""

    @idempotent(required=True)
    def __call__(self, request: Any) -> Any:
        return kitchen(request)


def _labelled() -> Any:
    """A function view on which another decorator has left a class."""

    def view(request: Any) -> Any:
        return kitchen(request)

    view.cls = Order
    return idempotent(view)


def _with_more(request: Any, more: str) -> Any:
    return kitchen(request)


VIEWS: dict[str, Callable[[], Any]] = {
    "dispatch": lambda: dispatch,
    "coroutine-dispatch": _coroutine,
    "method-dispatch": lambda: Bus().dispatch,
    "coroutine-method": lambda: Bus().adispatch,
    "foreign-dispatch": lambda: Mailbox().receive,
    "staticmethod": lambda: Namespace.below,
    "above-staticmethod": lambda: Namespace.above,
    "staticmethod-of-instance": lambda: Namespace().above,
    "classmethod": lambda: Namespace.of_class,
    "above-classmethod": lambda: Namespace.above_of_class,
    "function-in-class": lambda: Namespace.plain,
    "lambda-in-class": lambda: Namespace.of_lambda,
    "lambda": lambda: idempotent(lambda request: kitchen(request)),
    "nested": lambda: Namespace().make(),
    "partial": lambda: idempotent(functools.partial(_with_more, more="cake")),
    "of-partial": lambda: functools.partial(idempotent(_with_more), more="cake"),
    "request-attribute": lambda: Service(RequestFactory().get("/")).run,
    "instance": Instance,
    "labelled": _labelled,
}


@pytest.fixture
def serve(settings: Settings) -> Callable[[Any], None]:
    """Serve one view at ``/view/``."""

    def serving(view: Any) -> None:
        urls: Any = ModuleType("one_view")
        urls.urlpatterns = [path("view/", view)]
        settings.ROOT_URLCONF = urls

    return serving


@pytest.mark.parametrize("name", VIEWS)
def test_call_is_covered_whatever_bears_the_door(
    name: str, serve: Callable[[Any], None], post: Post, key: str
) -> None:
    """The second request is a replay."""
    serve(VIEWS[name]())
    replies = [post("/view/", key) for _ in range(2)]
    assert effects.count() == Order.objects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"
    assert IdempotencyRecord.objects.get().attempts == 1


@pytest.mark.parametrize("name", ["staticmethod", "classmethod", "function-in-class", "dispatch"])
def test_claim_of_a_function_in_a_class_commits_by_itself(
    name: str,
    serve: Callable[[Any], None],
    post: Post,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Django sees from the callback that the door opens the transactions."""
    joined: list[bool] = []
    insert = Store.insert

    def watched(self: Store, *args: Any) -> Any:
        joined.append(self.joined)
        return insert(self, *args)

    monkeypatch.setattr(Store, "insert", watched)
    serve(VIEWS[name]())
    with atomic_requests_on("default"):
        assert post("/view/", key).status_code == 201
    assert joined == [False]


def test_class_with_a_dispatch_of_another_kind_keeps_it() -> None:
    """Only a view's ``dispatch`` takes a request."""
    assert Mailbox().dispatch("one", "two") == ["one", "two"]
    assert "dispatch" not in vars(type("Quiet", (Mailbox,), {}))


@pytest.mark.parametrize(
    "view",
    [functools.partial(idempotent(required=True)(_with_more), more="cake"), Instance()],
    ids=["partial", "instance"],
)
@pytest.mark.parametrize("door", ["middleware", "decorator"])
def test_inner_options_count_through_a_partial_and_an_instance(
    door: str, view: Any, serve: Callable[[Any], None], post: Post, settings: Settings
) -> None:
    """A key that the inner door requires is required by the outer one as well."""
    if door == "middleware":
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    serve(view if door == "middleware" else idempotent(view))
    assert post("/view/").status_code == 400
    assert effects.count() == 0


def test_middleware_covers_a_bound_method(
    serve: Callable[[Any], None], post: Post, key: str, settings: Settings
) -> None:
    """A bound method takes no attributes, so the middleware leaves none on it."""

    class Desk:
        def view(self, request: Any) -> Any:
            return kitchen(request)

    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    serve(Desk().view)
    replies = [post("/view/", key) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_handler_made_of_a_function_called_dispatch_is_covered(
    serve: Callable[[Any], None], post: Post, key: str
) -> None:
    """What ``method_decorator`` hands over counts as a dispatch only if it is the class's."""

    def dispatch(self: View, request: Any) -> Any:
        return kitchen(request)

    fresh = type("Fresh", (View,), {"post": dispatch})
    decorate: Any = method_decorator
    serve(decorate(idempotent, name="post")(fresh).as_view())
    replies = [post("/view/", key) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_handler_that_closes_over_a_view_called_func_is_covered(
    serve: Callable[[Any], None], post: Post, key: str
) -> None:
    """Only REST framework's own handler has a door in a variable of that name.

    The mixin covers the handler, so the inner door cannot opt out, and says so.
    """

    @idempotent(methods=())
    def free(request: Any) -> Any:
        return kitchen(request)

    def make(func: Any) -> Any:
        def handler(self: View, request: Any) -> Any:
            return func(request)

        return handler

    serve(type("Closing", (IdempotencyMixin, View), {"post": make(free)}).as_view())
    assert [post("/view/", key).status_code for _ in range(2)] == [500, 500]
    assert effects.count() == 0


def test_door_on_a_class_that_is_no_view_is_refused() -> None:
    """The error is raised at import and says where the door belongs."""

    class Order:
        def place(self, request: Any) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(ImproperlyConfigured, match="Order"):
        idempotent(Order)


def test_attribute_that_only_the_mixin_reads_is_refused() -> None:
    """An option that would be ignored is an error at import."""

    class Shop(View):
        idempotency_required = True

    with pytest.raises(ImproperlyConfigured, match="idempotency_required"):
        idempotent(Shop)
    mixed = type("Mixed", (IdempotencyMixin, Shop), {})
    assert idempotent(mixed) is mixed
