"""Plain function views beside the ones of REST framework: orders with and without a key.

``?seconds=0.1`` makes an order slow. An order to ``held/`` waits until the file that
``BENCHMARK_GATE`` names is gone.
"""

import os
import time
import uuid
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from benchmarks.sites.orders.models import Order
from django_idempotency.decorators import idempotent


def answer(nonce: str) -> HttpResponse:
    """As long as an order's JSON is."""
    return JsonResponse({"nonce": nonce, "cakes": "c" * 450}, status=201)


def place(nonce: str) -> HttpResponse:
    """Write an order, and answer it."""
    order = Order.objects.create(nonce=nonce, customer="Erika Mustermann", cakes=3)
    return answer(order.nonce)


def nothing(request: HttpRequest) -> HttpResponse:
    """The same answer, without any database."""
    return answer(uuid.uuid4().hex)


@transaction.atomic
def bare(request: HttpRequest) -> HttpResponse:
    """An order in a transaction, without protection."""
    return place(uuid.uuid4().hex)


@idempotent
def order(request: HttpRequest) -> HttpResponse:
    """An order with protection."""
    time.sleep(float(request.GET.get("seconds", 0)))
    return place(uuid.uuid4().hex)


@idempotent
def held(request: HttpRequest) -> HttpResponse:
    """An order that waits at the gate; its nonce is the key."""
    gate = Path(os.environ["BENCHMARK_GATE"])
    while gate.exists():
        time.sleep(0.05)
    return place(request.headers["Idempotency-Key"])


urlpatterns = [
    path("nothing/", nothing),
    path("bare/", bare),
    path("order/", order),
    path("held/", held),
]
