"""The work behind every contestant's view, and the view without any contestant.

It returns a nonce and counts its runs beside the database, so that a contestant that runs it twice,
or loses its rows, is noticed.
"""

import threading
import uuid
from typing import Any

from django.db import router, transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Order

#: Seconds that a request is held at most, in case the parent has gone.
PATIENCE = 60.0


class Gate:
    """Holds one request inside its view; meanwhile others with its key are duplicates."""

    def __init__(self) -> None:
        self.is_closed = False
        self.entered, self.opened = threading.Event(), threading.Event()

    def close(self) -> None:
        """The next request will be held."""
        self.entered.clear()
        self.opened.clear()
        self.is_closed = True

    def hold(self) -> None:
        """Stay until the gate opens; others may pass."""
        self.is_closed = False
        self.entered.set()
        self.opened.wait(PATIENCE)


gate = Gate()
runs: list[str] = []


def write(asked: Any) -> dict[str, Any]:
    """Write the order; returns the answer."""
    order = Order.objects.create(
        nonce=uuid.uuid4().hex, customer=asked["customer"], cakes=len(asked["cakes"])
    )
    runs.append(order.nonce)
    if gate.is_closed:
        gate.hold()
    return {
        "id": order.pk,
        "nonce": order.nonce,
        "placed_at": order.placed_at.isoformat(),
        "status": "placed",
        "links": {"self": f"/orders/{order.pk}/", "invoice": f"/orders/{order.pk}/invoice/"},
        "order": asked,
    }


def place(request: Request) -> Response:
    """Answer a request."""
    return Response(write(request.data), status=201)


class Bare(APIView):
    """The view as it is without protection."""

    def post(self, request: Request) -> Response:
        with transaction.atomic(using=router.db_for_write(Order)):
            return place(request)
