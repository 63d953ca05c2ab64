"""The same behind REST framework's doors, and what only REST framework can get wrong."""

from collections.abc import Callable
from typing import Any

from rest_framework import serializers
from rest_framework.renderers import JSONRenderer, TemplateHTMLRenderer
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.rest_framework import IdempotencyMixin
from tests.app.models import Order

from . import views


class _Call(IdempotencyMixin, APIView):
    """A view of plain Django's, as REST framework would have it."""

    call: Callable[[Any], Any] | None = None

    def post(self, request: Any) -> Any:
        assert self.call
        return self.call(request)


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order whose ``mood`` cannot be had at first."""

    mood = serializers.SerializerMethodField()

    class Meta:
        model = Order
        fields = ["nonce", "mood"]

    def get_mood(self, order: Order) -> str:
        """Raise in the first attempt."""
        if self.context["request"].idempotency.attempt == 1:
            raise RuntimeError("mood")
        return "good"


class Serialized(IdempotencyMixin, APIView):
    """Place an order, and fail at first to serialize it."""

    def post(self, request: Any) -> Any:
        order = Order.objects.get(nonce=views.place())
        return Response(OrderSerializer(order, context={"request": request}).data, 201)


class Rendered(IdempotencyMixin, APIView):
    """Place an order, and answer at first with what JSON cannot hold."""

    renderer_classes = (JSONRenderer,)

    def post(self, request: Any) -> Any:
        nonce = views.place()
        first = request.idempotency.attempt == 1
        return Response({"nonce": nonce, "mood": object() if first else "good"}, 201)


class Shown(IdempotencyMixin, APIView):
    """Place an order, and show it at first in a template that is not there."""

    renderer_classes = (TemplateHTMLRenderer,)

    def post(self, request: Any) -> Any:
        first = request.idempotency.attempt == 1
        name = "faults/nowhere.html" if first else "django_idempotency/error.html"
        return Response({"title": views.place()}, 201, template_name=name)


API = {
    "api/transfer": _Call.as_view(call=views.transfer),
    "api/hook": _Call.as_view(call=views.hook),
    "api/serialized": Serialized.as_view(),
    "api/rendered": Rendered.as_view(),
    "api/shown": Shown.as_view(),
}
