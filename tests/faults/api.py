"""The same views behind REST framework's doors, and faults that only REST framework has."""

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
    """A view of plain Django's, called by REST framework."""

    call: Callable[[Any], Any] | None = None

    def post(self, request: Any) -> Any:
        assert self.call
        return self.call(request)


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order whose ``mood`` raises in the first attempt."""

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
    """Place an order; the first attempt fails to serialize it."""

    def post(self, request: Any) -> Any:
        order = Order.objects.get(nonce=views.place())
        return Response(OrderSerializer(order, context={"request": request}).data, 201)


class Rendered(IdempotencyMixin, APIView):
    """Place an order; the first attempt answers with a value that JSON does not have."""

    renderer_classes = (JSONRenderer,)

    def post(self, request: Any) -> Any:
        nonce = views.place()
        first = request.idempotency.attempt == 1
        return Response({"nonce": nonce, "mood": object() if first else "good"}, 201)


class Shown(IdempotencyMixin, APIView):
    """Place an order; the template of the first attempt does not exist."""

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
