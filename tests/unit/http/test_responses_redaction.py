"""``redact``: what a project removes is neither stored nor replayed."""

from dataclasses import replace
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views import View
from pytest_django import Settings

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.storage.values import StoredResponse
from django_idempotency.views import IdempotencyMixin
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import urlpatterns as app_urls
from tests.conftest import Post

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls(__name__),
]

CARD = "4242424242424242"
MASKED = "************4242"


def masked(response: StoredResponse) -> StoredResponse:
    """Masks the card number, and removes a header that only the first reply should have."""
    headers = [(name, value) for name, value in response.headers if name != "X-Token"]
    body = (response.body or b"").replace(CARD.encode(), MASKED.encode())
    return replace(response, headers=headers, body=body)


def shortened(response: StoredResponse) -> StoredResponse:
    """Returns a body of another length."""
    return replace(response, body=b"paid")


def untouched(response: StoredResponse) -> StoredResponse:
    """Returns the response as it is."""
    return response


def spoiling(response: StoredResponse) -> StoredResponse:
    """Changes the list of headers in place."""
    response.headers.clear()
    return response


def failing(response: StoredResponse) -> StoredResponse:
    """Raises an error."""
    raise KeyError("card")


def forgetful(response: StoredResponse) -> Any:
    """Returns nothing."""


def pay(request: HttpRequest) -> HttpResponse:
    """A reply that names a card."""
    nonce = str(effects.count())
    Order.objects.create(nonce=nonce)
    effects.happened(nonce)
    response = JsonResponse({"card": CARD, "nonce": nonce}, status=201)
    response["X-Token"] = CARD
    response["Content-Length"] = str(len(response.content))
    return response


class Pay(IdempotencyMixin, View):
    """The same view behind the mixin."""

    idempotency_redact = masked

    def post(self, request: HttpRequest) -> HttpResponse:
        return pay(request)


class Static(IdempotencyMixin, View):
    """The same with a static method."""

    idempotency_redact = staticmethod(masked)

    def post(self, request: HttpRequest) -> HttpResponse:
        return pay(request)


@idempotent(redact=masked)
async def apay(request: HttpRequest) -> HttpResponse:
    """The same as a coroutine."""
    return JsonResponse({"card": CARD}, status=201, headers={"X-Token": CARD})


urlpatterns = [
    *app_urls,
    path("pay/", idempotent(redact=masked)(pay)),
    path("pay/mixin/", Pay.as_view()),
    path("pay/static/", Static.as_view()),
    path("pay/async/", apay),
    path("pay/shortened/", idempotent(redact=shortened)(pay)),
    path("pay/untouched/", idempotent(redact=untouched)(pay)),
    path("pay/spoiling/", idempotent(redact=spoiling)(pay)),
    path("pay/failing/", idempotent(redact=failing)(pay)),
    path("pay/forgetful/", idempotent(redact=forgetful)(pay)),
    path("pay/plain/", idempotent(pay)),
]


def in_the_table() -> str:
    """The stored headers and body of the only record."""
    record = IdempotencyRecord.objects.get()
    return f"{record.response_headers}{bytes(record.response_body or b'').decode()}"


@pytest.mark.parametrize("door", ["/pay/", "/pay/mixin/", "/pay/static/", "/pay/async/"])
def test_what_was_redacted_is_neither_stored_nor_replayed(door: str, key: str, post: Post) -> None:
    """Only the first reply has it, in body and headers."""
    first, second = post(door, key), post(door, key)
    assert first.json()["card"] == first["X-Token"] == CARD
    assert CARD not in in_the_table()
    assert second["Idempotent-Replayed"] == "true"
    assert second.status_code == 201
    assert second.json() == {**first.json(), "card": MASKED}
    assert "X-Token" not in second


def test_setting_redacts_by_its_dotted_path(key: str, post: Post, settings: Settings) -> None:
    """For all views without the option."""
    settings.IDEMPOTENCY_REDACT = "tests.unit.http.test_responses_redaction.masked"
    post("/pay/plain/", key)
    assert MASKED in in_the_table()
    assert CARD not in in_the_table()


def test_body_is_encoded_after_its_redaction(key: str, post: Post, settings: Settings) -> None:
    """The project's callable gets the body as the view sent it."""
    settings.IDEMPOTENCY_BODY_CODEC = "tests.unit.codecs.test_codecs.ReversedCodec"
    post("/pay/", key)
    assert MASKED[::-1] in in_the_table()
    assert post("/pay/", key).json()["card"] == MASKED


def test_redacted_body_gets_its_own_content_length(key: str, post: Post) -> None:
    """With the old Content-Length, clients would misread the replay."""
    post("/pay/shortened/", key)
    second = post("/pay/shortened/", key)
    assert second.content == b"paid"
    assert second["Content-Length"] == "4"


def test_what_is_not_redacted_stays(key: str, post: Post) -> None:
    """Every header is stored, too."""
    first, second = post("/pay/untouched/", key), post("/pay/untouched/", key)
    assert dict(second.items()) == {**dict(first.items()), "Idempotent-Replayed": "true"}
    assert "Content-Length" in in_the_table()


def test_redaction_cannot_change_the_first_reply(key: str, post: Post) -> None:
    """Even if the callable changes the response that it was given."""
    first = post("/pay/spoiling/", key)
    assert first["X-Token"] == first.json()["card"] == CARD
    assert "X-Token" not in post("/pay/spoiling/", key)


@pytest.mark.parametrize("door", ["/pay/failing/", "/pay/forgetful/"])
def test_redaction_that_fails_leaves_nothing(
    door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """500, rolled back, and the key is free: no unredacted response is stored."""
    assert post(door, key).status_code == 500
    assert effects.count() == 1
    assert not Order.objects.exists()
    assert CARD not in in_the_table()
    assert post("/pay/plain/", key[::-1]).status_code == 201


def test_request_without_a_key_is_not_redacted(post: Post) -> None:
    """Nothing of it is stored."""
    assert post("/pay/failing/").status_code == 201
