"""The shop for programs: one order view made from :class:`APIView`, the same as a ViewSet."""

import math
from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from django_idempotency.rest_framework import IdempotencyMixin

from . import kitchen
from .models import Order, Origin

# The longest a cake bakes: less than the time a request may take on usual servers.
MAX_BAKE_SECONDS = 5.0


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order as programs write and read it."""

    bake_seconds = serializers.FloatField(
        min_value=0.0, max_value=MAX_BAKE_SECONDS, default=0.0, write_only=True
    )

    class Meta:
        model = Order
        fields = ["id", "cake", "icing", "ticket", "status", "created_at", "bake_seconds"]
        read_only_fields = ["ticket", "status", "created_at"]

    def validate_bake_seconds(self, seconds: float) -> float:
        """Refuse NaN, which is neither below a bound nor above one."""
        if math.isnan(seconds):
            raise serializers.ValidationError("A valid number is required.")
        return seconds

    def create(self, validated_data: dict[str, Any]) -> Order:
        """The order, when its cake has left the oven."""
        seconds = validated_data.pop("bake_seconds")
        order = Order.objects.create(origin=Origin.API, **validated_data)
        kitchen.bake(order, seconds)
        return order


class TooLateError(APIException):
    """The order has been cancelled before."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This order is not on the way any more."
    default_code = "too_late"


def _orders_of(request: Request) -> QuerySet[Order]:
    return Order.objects.filter(customer=request.user.pk)


class OrderView(IdempotencyMixin, APIView):
    """``/api/orders/``: the caller's orders, and a new one."""

    def get(self, request: Request) -> Response:
        """The caller's orders, the latest first."""
        return Response(OrderSerializer(_orders_of(request), many=True).data)

    def post(self, request: Request) -> Response:
        """Bake a cake."""
        serializer = OrderSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        order = serializer.save(customer=request.user)
        headers = {"Location": order.get_absolute_url()}
        return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)


class OrderViewSet(
    IdempotencyMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    GenericViewSet[Order],
):
    """``/api/v2/orders/``: the same, and orders can be cancelled."""

    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        """Only the caller's own orders."""
        return _orders_of(self.request)

    def perform_create(self, serializer: serializers.BaseSerializer[Order]) -> None:
        """Bake a cake."""
        serializer.save(customer=self.request.user)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Take a cake off the road; a second time that is too late."""
        order = self.get_object()
        if not Order.objects.cancel(order):
            raise TooLateError
        order.refresh_from_db()
        return Response(self.get_serializer(order).data)
