"""What benchmarks.replays and storm ask for: orders with and without a key, and nothing."""

import json
import os
import time
import uuid
from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from tests.app.models import Order

#: Of an answer.
BODY_BYTES = 500


def answer(nonce: str) -> HttpResponse:
    """As long as an order's JSON is."""
    body = json.dumps({"nonce": nonce, "cakes": ""})
    filled = body[:-2] + "c" * (BODY_BYTES - len(body)) + body[-2:]
    return HttpResponse(filled, "application/json", status=201)


@csrf_exempt
def nothing(request: HttpRequest) -> HttpResponse:
    """The same answer, without any database."""
    return answer(uuid.uuid4().hex)


@csrf_exempt
@transaction.atomic
def bare(request: HttpRequest) -> HttpResponse:
    """An order in a transaction, without a key."""
    order = Order.objects.create(nonce=uuid.uuid4().hex)
    return answer(order.nonce)


@csrf_exempt
@idempotent
def order(request: HttpRequest) -> HttpResponse:
    """An order with one."""
    order = Order.objects.create(nonce=uuid.uuid4().hex)
    return answer(order.nonce)


@csrf_exempt
@idempotent
def held(request: HttpRequest) -> HttpResponse:
    """An order that goes on when the gate, a file, is gone; its row bears the key."""
    gate = Path(os.environ["BENCHMARK_GATE"])
    while gate.exists():
        time.sleep(0.05)
    order = Order.objects.create(nonce=request.headers["Idempotency-Key"])
    return answer(order.nonce)


urlpatterns = [
    path("nothing/", nothing),
    path("bare/", bare),
    path("order/", order),
    path("held/", held),
]
