"""The work behind every contestant's view, and the view without any contestant.

It returns a nonce and counts its runs beside the database, so that nobody passes who runs it twice
or whose rows are not there.
"""

import threading
import uuid
from typing import Any

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .models import Order

#: Seconds. Nobody waits longer, should the parent have gone.
PATIENCE = 60.0


class Gate:
    """Holds one request inside its view; meanwhile others with its key are duplicates."""

    def __init__(self) -> None:
        self.closed = False
        self._entered, self._opened = threading.Event(), threading.Event()

    def close(self) -> None:
        """The next request will be held."""
        self._entered.clear()
        self._opened.clear()
        self.closed = True

    def hold(self) -> None:
        """Stay until the gate opens; others may pass."""
        self.closed = False
        self._entered.set()
        self._opened.wait(PATIENCE)

    def wait_until_held(self) -> bool:
        """Whether a request has reached its view."""
        return self._entered.wait(PATIENCE)

    def open(self) -> None:
        """Let it go on."""
        self._opened.set()


gate = Gate()
runs: list[str] = []


def write(asked: Any, orders: Any = Order.objects) -> dict[str, Any]:
    """Write the order; what is answered."""
    order = orders.create(
        nonce=uuid.uuid4().hex, customer=asked["customer"], cakes=len(asked["cakes"])
    )
    runs.append(order.nonce)
    if gate.closed:
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
        with transaction.atomic():
            return place(request)
