"""Customers spread over two servers: a record is where the rows of its request are, and nowhere
else, so that a server that is down stops its own customers only.
"""

import json
import uuid
from collections.abc import Iterator

import pytest
from django.db import connection, connections
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path
from pytest_django import DjangoDbBlocker

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.faults.own_server import own_server
from tests.support.servers import Server

from .owners import Reply

pytestmark = [
    pytest.mark.urls("tests.concurrency.test_shards"),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="one database is enough"),
]

SHARDS = ("first", "second")
CUSTOMERS = range(6)


def shard_of(request: HttpRequest) -> str:
    """Where the rows of the request's customer are."""
    return SHARDS[int(request.headers["X-Customer"]) % 2]


@idempotent(using=shard_of)
def place(request: HttpRequest) -> JsonResponse:
    """An order there, and an effect outside of both."""
    nonce = uuid.uuid4().hex
    Order.objects.using(shard_of(request)).create(nonce=nonce)
    effects.happened(nonce)
    return JsonResponse({"nonce": nonce}, status=201)


urlpatterns = [path("orders/", place)]


@pytest.fixture(scope="module")
def server(django_db_blocker: DjangoDbBlocker) -> Iterator[Server]:
    """The second of them."""
    with django_db_blocker.unblock(), own_server("first"), own_server("second") as server:
        yield server


@pytest.fixture
def keys(server: Server) -> Iterator[dict[int, str]]:
    """A key for each customer."""
    yield {customer: uuid.uuid4().hex for customer in CUSTOMERS}
    for alias in SHARDS:
        with connections[alias].cursor() as cursor:
            for model in (Order, IdempotencyRecord):
                cursor.execute(f"DELETE FROM {model._meta.db_table}")
        connections[alias].close()


def order(customer: int, key: str) -> Reply:
    """One request of a customer."""
    headers = {"X-Customer": str(customer), "Idempotency-Key": key}
    return Client(raise_request_exception=False).post("/orders/", headers=headers)


def statuses(keys: dict[int, str], shard: str) -> set[int]:
    """The statuses that the customers of a shard get."""
    mine = [customer for customer in keys if SHARDS[customer % 2] == shard]
    return {order(customer, keys[customer]).status_code for customer in mine}


def test_record_and_order_are_on_the_customer_s_server(keys: dict[int, str]) -> None:
    """Half of them on each; a replay finds its own."""
    nonces = {customer: order(customer, key).json()["nonce"] for customer, key in keys.items()}
    for customer, key in keys.items():
        reply = order(customer, key)
        assert reply.json()["nonce"] == nonces[customer]
        assert reply["Idempotent-Replayed"] == "true"
    for number, alias in enumerate(SHARDS):
        orders = set(Order.objects.using(alias).values_list("nonce", flat=True))
        records = IdempotencyRecord.objects.using(alias).all()
        assert orders == {nonces[customer] for customer in CUSTOMERS[number::2]}
        saved = [bytes(record.response_body or b"") for record in records]
        assert {json.loads(body)["nonce"] for body in saved} == orders
    assert effects.count() == len(CUSTOMERS)


def test_one_key_of_two_customers_is_two_operations(keys: dict[int, str]) -> None:
    """Each in its own database, which knows nothing of the other."""
    replies = [order(customer, keys[0]) for customer in (0, 1)]
    assert [reply.status_code for reply in replies] == [201, 201]
    assert [Order.objects.using(alias).count() for alias in SHARDS] == [1, 1]


def test_dead_server_stops_its_own_customers_only(keys: dict[int, str], server: Server) -> None:
    """They get 503, with the old key and with a new one, and are served when it is back."""
    assert statuses(keys, "second") == {201}
    later = {customer: uuid.uuid4().hex for customer in keys}
    server.crash()
    try:
        assert statuses(keys, "second") == statuses(later, "second") == {503}
        assert statuses(keys, "first") == statuses(keys, "first") == {201}
    finally:
        server.start()
    # As Django does at the end of a request.
    connections["second"].close()
    assert statuses(keys, "second") == statuses(later, "second") == {201}
    assert [Order.objects.using(alias).count() for alias in SHARDS] == [3, 6]
    assert effects.count() == 9
    records = [IdempotencyRecord.objects.using(alias) for alias in SHARDS]
    assert [each.filter(status=Status.COMPLETED).count() for each in records] == [3, 6]
