"""The coroutines of REST framework's views, as the package adrf makes them, on every door."""

import uuid
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.app import effects

pytest.importorskip("rest_framework")
pytest.importorskip("adrf")
from adrf.decorators import api_view
from adrf.views import APIView
from adrf.viewsets import ViewSet
from rest_framework.response import Response

from django_idempotency.rest_framework import IdempotencyMixin

pytestmark = [
    pytest.mark.drf,
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]
required = idempotent(required=True)


def sell() -> Response:
    """An effect, and a reply that is never the same."""
    nonce = uuid.uuid4().hex
    effects.happened(nonce)
    return Response({"nonce": nonce}, status=201)


@api_view(["POST"])  # type: ignore[untyped-decorator]
@required
async def below(request: Any) -> Response:
    """A door below."""
    return sell()


@required
@api_view(["POST"])  # type: ignore[untyped-decorator]
async def above(request: Any) -> Response:
    """A door above."""
    return sell()


class Plain(APIView):  # type: ignore[misc]
    """A class without a door."""

    async def post(self, request: Any) -> Response:
        return sell()


class Mixed(IdempotencyMixin, Plain):
    """The mixin."""

    idempotency_required = True


class Method(APIView):  # type: ignore[misc]
    """A door on the handler."""

    @required
    async def post(self, request: Any) -> Response:
        return sell()


class Orders(IdempotencyMixin, ViewSet):  # type: ignore[misc]
    """A ViewSet."""

    idempotency_required = True

    async def create(self, request: Any) -> Response:
        return sell()


class Sync(APIView):  # type: ignore[misc]
    """Its handler is no coroutine."""

    def post(self, request: Any) -> Response:
        return sell()


DOORS: dict[str, Any] = {
    "below": below,
    "above": above,
    "as-view": required(Plain.as_view()),
    "mixin": Mixed.as_view(),
    "method": Method.as_view(),
    "viewset": Orders.as_view({"post": "create"}),
    "sync": required(Sync.as_view()),
}
urlpatterns = [path(f"{name}/", view) for name, view in DOORS.items()]


@pytest.mark.parametrize("door", DOORS)
def test_repeated_request_runs_once(door: str, key: str) -> None:
    """And the mixin's option, another body and a missing key count as everywhere."""

    async def post(cake: str, **headers: str) -> Any:
        return await AsyncClient().post(
            f"/{door}/", {"cake": cake}, content_type="application/json", headers=headers
        )

    async def all_of_them() -> list[Any]:
        sent = {"Idempotency-Key": key}
        replies = [await post("lemon", **sent), await post("lemon", **sent)]
        return [*replies, await post("plum", **sent), await post("lemon")]

    first, again, other, keyless = async_to_sync(all_of_them)()
    assert effects.count() == 1
    assert (first.status_code, again.content) == (201, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert (other.status_code, keyless.status_code) == (422, 400)
