"""The examples of docs/testing.rst, which includes them from here."""

from datetime import timedelta

import pytest
from django.http import HttpRequest, JsonResponse
from django.test import Client, TestCase
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.testing import (
    IdempotencyAsyncClient,
    IdempotencyClient,
    age_record,
    assert_idempotent,
    assert_not_replayed,
    assert_replayed,
    protection_off,
)
from tests.app.models import Order

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@idempotent
def create_order(request: HttpRequest) -> JsonResponse:
    order = Order.objects.create(nonce=request.POST["cake"])
    return JsonResponse({"id": order.pk}, status=201)


@idempotent(field="key")
def order_form(request: HttpRequest) -> JsonResponse:
    return create_order(request)


urlpatterns = [path("orders/", create_order), path("form/", order_form)]


class OrderTests(TestCase):
    client_class = IdempotencyClient

    def test_order_that_is_repeated_is_one_order(self) -> None:
        first = self.client.post("/orders/", {"cake": "lemon"})
        assert_not_replayed(first)
        assert_replayed(self.client.repeat())
        assert Order.objects.count() == 1

    async def test_async_view(self) -> None:
        client = IdempotencyAsyncClient()
        await client.post("/orders/", {"cake": "lemon"})
        assert_replayed(await client.repeat())
        assert await Order.objects.acount() == 1


def test_orders_are_idempotent(client: Client) -> None:
    response = assert_idempotent(
        lambda headers: client.post("/orders/", {"cake": "lemon"}, headers=headers),
        effects=Order.objects.count,
        other=lambda headers: client.post("/orders/", {"cake": "cherry"}, headers=headers),
    )
    assert response.status_code == 201


def test_form_is_idempotent(client: Client) -> None:
    def call(headers: dict[str, str]) -> object:
        return client.post("/form/", {"cake": "lemon", "key": headers["Idempotency-Key"]})

    assert_idempotent(call, effects=Order.objects.count)


def test_key_answers_for_a_day(idempotency_client: IdempotencyClient) -> None:
    idempotency_client.post("/orders/", {"cake": "lemon"})
    age_record(idempotency_client.last_key, by=timedelta(hours=25))
    assert_not_replayed(idempotency_client.repeat())
    assert Order.objects.count() == 2


@protection_off()
def test_orders_without_protection(idempotency_client: IdempotencyClient) -> None:
    idempotency_client.post("/orders/", {"cake": "lemon"})
    assert_not_replayed(idempotency_client.repeat())


@pytest.mark.usefixtures("idempotency_off")
def test_orders_without_protection_under_pytest(client: Client) -> None:
    assert client.post("/orders/", {"cake": "lemon"}).status_code == 201
