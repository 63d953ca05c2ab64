"""Classes that answer in ``dispatch``, as GraphQL views do: the claim stands around it."""

import uuid
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.generic import View

from django_idempotency.decorators import idempotent
from django_idempotency.views import IdempotencyMixin
from tests.app import effects
from tests.app.models import Order

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]
required = idempotent(required=True)


def sell() -> HttpResponse:
    """One effect in the database, one outside, and a reply that is never the same."""
    nonce = uuid.uuid4().hex
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    return HttpResponse(nonce, status=201)


class Plain(View):
    """Nothing answers a POST."""


class Answering(View):
    """The house style of an old project."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, f"do_{request.method or ''}".lower())()

    def do_post(self) -> HttpResponse:
        return sell()


class NotAllowed(View):
    """Every method is one that is not there."""

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return sell()


class Overriding(View):
    """A form says which method it means."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self.put()

    def put(self) -> HttpResponse:
        return sell()


@required
class Decorated(Answering):
    """A door on the class."""


@method_decorator(required, name="dispatch")
class DispatchDecorated(Answering):
    """A door on what it inherits."""


class Direct(View):
    """A door on its own dispatch."""

    @required
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return sell()


class Mixed(IdempotencyMixin, Answering):
    """The mixin before a class that answers."""

    idempotency_required = True


class MixedNotAllowed(IdempotencyMixin, NotAllowed):
    """The same for the other way to answer."""

    idempotency_required = True


class Coroutine(View):
    """As Strawberry's view does."""

    view_is_async = True

    async def dispatch(  # type: ignore[override]
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> Any:
        effects.happened(uuid.uuid4().hex)
        return HttpResponse(uuid.uuid4().hex, status=201)


DOORS: dict[str, Any] = {
    "as-view": required(Answering.as_view()),
    "not-allowed": required(NotAllowed.as_view()),
    "overriding": required(Overriding.as_view()),
    "class": Decorated.as_view(),
    "dispatch-decorator": DispatchDecorated.as_view(),
    "direct": Direct.as_view(),
    "mixin": Mixed.as_view(),
    "mixin-not-allowed": MixedNotAllowed.as_view(),
    "coroutine": required(Coroutine.as_view()),
    "plain": required(Plain.as_view()),
}
urlpatterns = [path(f"{name}/", view) for name, view in DOORS.items()]
SYNC = [name for name in DOORS if name not in ("coroutine", "plain")]


@pytest.mark.parametrize("door", SYNC)
def test_repeated_request_runs_once(door: str, key: str, atomic_requests: bool) -> None:
    """Whatever answers it; another body is refused."""
    first, again = (Client().post(f"/{door}/", headers={"Idempotency-Key": key}) for _ in range(2))
    other = Client().post(f"/{door}/", {"cake": "plum"}, headers={"Idempotency-Key": key})
    assert Order.objects.count() == effects.count() == 1
    assert (first.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert other.status_code == 422


@pytest.mark.parametrize("door", SYNC)
def test_required_key_is_required(door: str) -> None:
    """Nothing runs without it."""
    assert Client().post(f"/{door}/").status_code == 400
    assert effects.count() == 0


def test_coroutine_that_answers_runs_once(key: str) -> None:
    """Under its lease."""

    async def twice() -> list[Any]:
        client = AsyncClient()
        headers = {"Idempotency-Key": key}
        return [await client.post("/coroutine/", headers=headers) for _ in range(2)]

    first, again = async_to_sync(twice)()
    assert effects.count() == 1
    assert (again.content, again["Idempotent-Replayed"]) == (first.content, "true")


def test_method_that_nothing_answers_is_not_allowed(key: str) -> None:
    """A framework's own class has nothing to cover."""
    assert Client().post("/plain/", headers={"Idempotency-Key": key}).status_code == 405
