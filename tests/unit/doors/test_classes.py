"""View classes: whose ``dispatch`` is covered, and in whose transactions it runs."""

import gc
import uuid
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.storage.records import Store
from django_idempotency.views import IdempotencyMixin
from tests.app import effects
from tests.app.aviews import akitchen
from tests.app.models import Order
from tests.app.views import kitchen
from tests.conftest import Post, atomic_requests_on

pytestmark = pytest.mark.django_db(transaction=True)

Serve = Callable[..., None]


class Kitchen(View):
    """A view without a door."""

    def get(self, request: Any) -> Any:
        return HttpResponse(str(connection.in_atomic_block))

    def post(self, request: Any) -> Any:
        return kitchen(request)


class Counting:
    """Writes before and after the handler, in a ``dispatch`` of its own."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        Order.objects.create(nonce="before")
        parent: Any = super()
        response = parent.dispatch(request, *args, **kwargs)
        if request.GET.get("act") == "crash_after":
            raise RuntimeError
        return response


class Mixed(IdempotencyMixin, Kitchen):
    """The mixin before the view."""


@idempotent
class Decorated(Kitchen):
    """A decorated class."""


class DispatchMethod(Kitchen):
    """The decorator on ``dispatch``, in the class's body."""

    @idempotent
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)


class DispatchMixin:
    """The same in a mixin that is no view by itself."""

    @idempotent
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        parent: Any = super()
        return parent.dispatch(request, *args, **kwargs)


class WithDispatchMixin(DispatchMixin, Kitchen):
    """A view by its other base."""


class OneMethod(Kitchen):
    """The decorator on a handler."""

    @idempotent
    def post(self, request: Any) -> Any:
        return kitchen(request)


#: Classes whose own dispatch is not a door's.
ABOVE: dict[str, type[View]] = {
    "mixin": type("AboveMixed", (Counting, Mixed), {}),
    "mixin-after": type("Before", (Counting, IdempotencyMixin, Kitchen), {}),
    "mixin-last": type("Last", (Counting, Kitchen, IdempotencyMixin), {}),
    "class": type("AboveDecorated", (Counting, Decorated), {}),
    "dispatch": type("AboveDispatch", (Counting, DispatchMethod), {}),
    "dispatch-mixin": type("AboveDispatchMixin", (Counting, WithDispatchMixin), {}),
    "method": type("AboveMethod", (Counting, OneMethod), {}),
}


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """Serve views at ``/0/``, ``/1/`` and so on."""

    def serving(*views: Any) -> None:
        urls: Any = ModuleType("some_views")
        urls.urlpatterns = [path(f"{number}/", view) for number, view in enumerate(views)]
        settings.ROOT_URLCONF = urls

    return serving


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each claim joined a transaction that was open around it."""
    claims: list[bool] = []
    insert = Store.insert

    def watched(self: Store, *args: Any) -> Any:
        claims.append(self.joined)
        return insert(self, *args)

    monkeypatch.setattr(Store, "insert", watched)
    return claims


@pytest.mark.parametrize("name", ABOVE)
def test_dispatch_of_a_subclass_runs_in_django_s_transaction(name: str, serve: Serve) -> None:
    """What it wrote outside of a method that is not covered is undone if it raises."""
    serve(ABOVE[name].as_view())
    client = Client(raise_request_exception=False)
    with atomic_requests_on("default"):
        assert client.get("/0/").content == b"True"
        assert Order.objects.count() == 1
        assert client.get("/0/?act=crash_after").status_code == 500
    assert Order.objects.count() == 1


@pytest.mark.parametrize("name", ABOVE)
def test_claim_below_a_subclass_s_dispatch_commits_by_itself(
    name: str, serve: Serve, post: Post, key: str, joined: list[bool]
) -> None:
    """The handler runs once, and Django opens no transaction around the two."""
    serve(ABOVE[name].as_view())
    with atomic_requests_on("default"):
        replies = [post("/0/", key) for _ in range(2)]
    assert effects.count() == 1
    assert set(joined) == {False}
    assert replies[1]["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("where", ["dispatch", "callback"])
def test_view_that_is_kept_apart_takes_no_other_with_it(where: str, serve: Serve) -> None:
    """``non_atomic_requests`` on one class with the mixin says nothing about another."""
    apart: Any = type("Apart", (IdempotencyMixin, Kitchen), {})
    other: Any = type("Other", (IdempotencyMixin, Kitchen), {})
    if where == "dispatch":
        decorate: Any = method_decorator
        view = decorate(transaction.non_atomic_requests, name="dispatch")(apart).as_view()
    else:
        view = transaction.non_atomic_requests(apart.as_view())
    serve(view, other.as_view())
    with atomic_requests_on("default"):
        for _ in range(2):
            assert Client().get("/0/").content == b"False"
            assert Client().get("/1/").content == b"True"


def test_options_of_dispatch_are_stronger_than_those_of_the_class(serve: Serve, post: Post) -> None:
    """The inner door wins where both are decorators."""

    class Lenient(Kitchen):
        @idempotent(required=False)
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    serve(idempotent(required=True)(Lenient).as_view())
    assert post("/0/").status_code == 201


@pytest.mark.parametrize("base", [Mixed, Kitchen])
def test_options_on_the_dispatch_of_a_base_reach_a_subclass(
    base: type[View], serve: Serve, post: Post
) -> None:
    """By ``method_decorator``, whatever the subclass's own dispatch does."""
    decorate: Any = method_decorator
    fresh = type("Fresh", (base,), {})
    strict = decorate([idempotent(required=True), never_cache], name="dispatch")(fresh)
    serve(strict.as_view(), type("Below", (Counting, strict), {}).as_view())
    assert post("/0/").status_code == post("/1/").status_code == 400
    assert effects.count() == 0


@pytest.mark.parametrize("order", ["mixin-first", "mixin-last"])
def test_options_of_a_decorated_base_stay_beside_the_mixin(
    order: str, serve: Serve, post: Post
) -> None:
    """Each of two bases has left something on its class, and both count."""
    strict = idempotent(required=True)(type("Strict", (Kitchen,), {}))
    bases = (IdempotencyMixin, strict) if order == "mixin-first" else (strict, IdempotencyMixin)
    serve(type("Both", bases, {"idempotency_header": "X-Key"}).as_view())
    assert post("/0/", "k" * 32).status_code == 400
    replies = [post("/0/", **{"X-Key": "k" * 32}) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_outer_door_on_a_base_leaves_a_decorated_class_its_subclasses(
    serve: Serve, post: Post, key: str, joined: list[bool]
) -> None:
    """Which of the two was made first does not matter."""
    base = type("Foreign", (Kitchen,), {})
    idempotent(base.as_view())
    decorated = idempotent(type("Own", (base,), {}))
    serve(type("Below", (Counting, decorated), {}).as_view())
    with atomic_requests_on("default"):
        assert post("/0/", key).status_code == 201
        assert Client().get("/0/").content == b"True"
    assert joined == [False]


def test_class_with_the_mixin_keeps_its_dispatch() -> None:
    """Nothing is put in the place of a method of a class that defines none."""
    assert "dispatch" not in vars(Mixed)
    assert "dispatch" in vars(ABOVE["mixin"])


def test_view_called_by_another_is_covered_by_its_own_door(serve: Serve, post: Post) -> None:
    """One request, two instances: the outer view has no door, the inner one has."""

    class Outer(Kitchen):
        def post(self, request: Any) -> Any:
            return Mixed.as_view()(request)

    serve(Outer.as_view())
    key = uuid.uuid4().hex
    replies = [post("/0/", key) for _ in range(2)]
    assert effects.count() == 1
    assert replies[1]["Idempotent-Replayed"] == "true"


def test_coroutine_called_dispatch_covers_its_class_s_handlers(serve: Serve, post: Post) -> None:
    """A handler may opt out, as below any other dispatch."""

    class Awaiting(View):
        @idempotent(required=True)
        async def dispatch(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            return await super().dispatch(*args, **kwargs)  # type: ignore[misc]

        async def post(self, request: Any) -> Any:
            return await akitchen(request)

        @idempotent(methods=())
        async def patch(self, request: Any) -> Any:
            return await akitchen(request)

    serve(Awaiting.as_view())
    assert post("/0/").status_code == 400
    assert Client().patch("/0/").status_code == 201
    assert effects.count() == 1


def test_handler_made_for_one_request_is_not_kept(serve: Serve, post: Post) -> None:
    """It may hold the request, and all that this holds."""
    made: list[weakref.ref[Any]] = []

    class Fresh(Mixed):
        def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
            super().setup(request, *args, **kwargs)

            def handler(request: Any) -> Any:
                return kitchen(request)

            vars(self)["post"] = handler
            made.append(weakref.ref(handler))

    serve(Fresh.as_view())
    assert post("/0/", str(uuid.uuid4())).status_code == 201
    gc.collect()
    assert [handler() for handler in made] == [None]
