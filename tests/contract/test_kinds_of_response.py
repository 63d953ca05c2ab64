"""Unusual responses, and content negotiation for a replay."""

from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views.decorators.http import condition

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.models import Order
from tests.app.views import kitchen

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

RESPONSES = {
    "not-modified": lambda: HttpResponse(status=304, headers={"ETag": '"1"'}),
    "empty": lambda: HttpResponse(headers={"X-Total-Count": "0", "Link": '<?page=2>; rel="next"'}),
    "varied": lambda: HttpResponse("é", headers={"Vary": "Accept, X-Tenant", "Allow": "GET, POST"}),
    "utf-16": lambda: HttpResponse("Törtchen", charset="utf-16"),
    "gone": lambda: HttpResponse("sold out", status=410),
    "unusual": lambda: HttpResponse("tea", status=299, reason="Lukewarm"),
}


@idempotent
def special(request: Any) -> Any:
    """The response that the query names, after an effect."""
    kitchen(request)
    return RESPONSES[request.GET["kind"]]()


@idempotent
@condition(etag_func=lambda request: '"2"')
def conditional(request: Any) -> Any:
    """A view whose precondition is checked once, for the first request."""
    return kitchen(request)


@idempotent
async def streaming(request: Any) -> StreamingHttpResponse:
    """A stream from a coroutine."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"cake"

    return StreamingHttpResponse(pieces())


urlpatterns: list[Any] = [
    path("special/", special),
    path("conditional/", conditional),
    path("streaming/", streaming),
]
if find_spec("rest_framework"):
    from rest_framework.renderers import BaseRenderer, JSONRenderer

    from tests.app.api import MixinApi

    class Plain(BaseRenderer):
        """A renderer of another media type."""

        media_type = "text/plain"
        format = "txt"

        def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
            return repr(data).encode()

    class Negotiating(MixinApi):
        """A view that answers in the media type that the client prefers."""

        renderer_classes = (JSONRenderer, Plain)

    urlpatterns.append(path("negotiating/", Negotiating.as_view()))


def twice(url: str, key: str, *headers: dict[str, str]) -> list[Any]:
    """Send the same request twice, with different headers."""
    return [Client().post(url, headers={"Idempotency-Key": key, **more}) for more in headers]


@pytest.mark.parametrize("kind", RESPONSES)
def test_unusual_response_is_replayed(kind: str, key: str) -> None:
    """With status, bytes and headers."""
    first, again = twice(f"/special/?kind={kind}", key, {}, {})
    assert Order.objects.count() == effects.count() == 1
    assert first.status_code == again.status_code
    assert first.content == again.content
    assert dict(again.items()) == {**dict(first.items()), "Idempotent-Replayed": "true"}


def test_precondition_counts_once(key: str) -> None:
    """The first order changed the state, yet the retry gets its reply and no 412."""
    first, again = twice("/conditional/", key, {"If-Match": '"2"'}, {"If-Match": '"1"'})
    assert effects.count() == 1
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content


def test_failed_precondition_is_no_outcome(key: str) -> None:
    """412 frees the key, so the client may read the new state and send the order again."""
    refused, corrected = twice("/conditional/", key, {"If-Match": '"1"'}, {"If-Match": '"2"'})
    assert effects.count() == 1
    assert (refused.status_code, corrected.status_code) == (412, 201)


def test_stream_from_a_coroutine_is_refused(key: str) -> None:
    """Under ASGI as well; the key is free."""
    client = AsyncClient(raise_request_exception=False)
    for headers in ({}, {"Idempotency-Key": key}):
        assert async_to_sync(client.post)("/streaming/", headers=headers).status_code == 500
    assert not IdempotencyRecord.objects.filter(response_status__isnull=False).exists()


@pytest.mark.drf
def test_replay_ignores_another_accept_header(key: str) -> None:
    """The first reply was JSON, and so is the replay."""
    first, again = twice(
        "/negotiating/", key, {"Accept": "application/json"}, {"Accept": "text/plain"}
    )
    assert effects.count() == 1
    assert first["Content-Type"] == again["Content-Type"] == "application/json"
    assert first.content == again.content
    assert "Accept" in again["Vary"]


@pytest.mark.drf
def test_type_that_cannot_be_written_is_refused_before_a_replay(key: str) -> None:
    """REST framework answers 406 before the layer looks at the key."""
    first, again = twice("/negotiating/", key, {}, {"Accept": "image/png"})
    assert effects.count() == 1
    assert (first.status_code, again.status_code) == (201, 406)


def test_head_passes_through(key: str, client: Client) -> None:
    """HEAD is not a covered method."""
    for _ in range(2):
        client.head("/special/?kind=gone", headers={"Idempotency-Key": key})
    assert effects.count() == 2
