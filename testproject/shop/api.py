"""The shop for programs: one order view made from :class:`APIView`, the same as a ViewSet."""

import math
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from django_idempotency.rest_framework import IdempotencyMixin

from . import kitchen
from .models import ICING_LENGTH, Order, Origin

# The longest a cake bakes: less than the time a request may take on usual servers.
MAX_BAKE_SECONDS = 5.0
# Among its characters one that can be seen, and none that a database refuses.
_VISIBLE = r"^[^\x00]*[^\s\x00-\x1f\x7f-\x9f][^\x00]*$"


class VisibleField(serializers.RegexField):
    """A text that can be read; a number is none, though REST framework would make it one."""

    default_error_messages = {"invalid": "Write something that can be seen."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(_VISIBLE, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The text, without white space around it."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SecondsField(serializers.FloatField):
    """A duration that an oven understands."""

    def to_internal_value(self, data: Any) -> float:
        """The seconds; NaN is neither below a bound nor above one, and True is no number."""
        seconds = super().to_internal_value(data)
        if isinstance(data, bool) or math.isnan(seconds):
            self.fail("invalid")
        return seconds


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order as programs write and read it."""

    icing = VisibleField(max_length=ICING_LENGTH)
    bake_seconds = SecondsField(
        min_value=0.0, max_value=MAX_BAKE_SECONDS, default=0.0, write_only=True
    )

    class Meta:
        model = Order
        fields = ["id", "cake", "icing", "ticket", "status", "created_at", "bake_seconds"]
        read_only_fields = ["ticket", "status", "created_at"]

    def create(self, validated_data: dict[str, Any]) -> Order:
        """The order, when its cake has left the oven."""
        seconds = validated_data.pop("bake_seconds")
        order = Order.objects.create(origin=Origin.API, **validated_data)
        kitchen.bake(order, seconds)
        return order


class DetailSerializer(serializers.Serializer[Any]):
    """Why something was refused, in words."""

    detail = serializers.CharField()


class TokenSerializer(serializers.Serializer[Any]):
    """What a program shows instead of a password."""

    token = serializers.CharField()


# By status, the replies that are no cake; those of the layer are added to them.
_READING = {401: DetailSerializer}
_ORDERING = {400: OpenApiTypes.OBJECT, 401: DetailSerializer, 415: DetailSerializer}
_ONE = {404: DetailSerializer}


@extend_schema_view(
    post=extend_schema(
        auth=[],
        responses={200: TokenSerializer, 400: OpenApiTypes.OBJECT, 415: DetailSerializer},
    )
)
class TokenView(ObtainAuthToken):
    """``/api/token/``: a name and a password for a token."""


class TooLateError(APIException):
    """The order has been cancelled before, or paid."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = "This order is not on the way any more, or it is paid."
    default_code = "too_late"


def _orders_of(request: Request) -> QuerySet[Order]:
    return Order.objects.filter(customer=request.user.pk)


class OrderView(IdempotencyMixin, APIView):
    """``/api/orders/``: the caller's orders, and a new one."""

    @extend_schema(responses={200: OrderSerializer(many=True), **_READING})
    def get(self, request: Request) -> Response:
        """The caller's orders, the latest first."""
        return Response(OrderSerializer(_orders_of(request), many=True).data)

    @extend_schema(request=OrderSerializer, responses={201: OrderSerializer, **_ORDERING})
    def post(self, request: Request) -> Response:
        """Bake a cake."""
        serializer = OrderSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        order = serializer.save(customer=request.user)
        headers = {"Location": order.get_absolute_url()}
        return Response(serializer.data, status=status.HTTP_201_CREATED, headers=headers)


@extend_schema_view(
    create=extend_schema(responses={201: OrderSerializer, **_ORDERING}),
    list=extend_schema(responses={200: OrderSerializer(many=True), **_READING}),
    retrieve=extend_schema(responses={200: OrderSerializer, **_READING, **_ONE}),
)
class OrderViewSet(
    IdempotencyMixin,
    mixins.CreateModelMixin,
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    GenericViewSet[Order],
):
    """``/api/v2/orders/``: the same, and orders can be cancelled."""

    serializer_class = OrderSerializer
    # With a dot in it, too, what is no number gets this API's 404 and not a page.
    lookup_value_regex = "[^/]+"

    def get_queryset(self) -> QuerySet[Order]:
        """Only the caller's own orders."""
        return _orders_of(self.request)

    def perform_create(self, serializer: serializers.BaseSerializer[Order]) -> None:
        """Bake a cake."""
        serializer.save(customer=self.request.user)

    @extend_schema(
        request=None,
        responses={200: OrderSerializer, 409: DetailSerializer, **_READING, **_ONE},
    )
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Take a cake off the road; a second time that is too late."""
        order = self.get_object()
        if not Order.objects.cancel(order.pk):
            raise TooLateError
        order.refresh_from_db()
        return Response(self.get_serializer(order).data)
