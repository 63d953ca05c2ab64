"""Cakes to the door, for programs: the same order to be waited for, or to be asked about later."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiViewExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.exceptions import OperationFailedError
from django_idempotency.operation import Operation
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.status.state import State

from .api import DetailSerializer, VisibleField
from .deliveries import CHARGE, deliver
from .models import ADDRESS_LENGTH, ICING_LENGTH, Order
from .partners import CardDeclinedError


class DeliverySerializer(serializers.ModelSerializer[Order]):
    """An order with the door it is for; the price is in cents."""

    icing = VisibleField(max_length=ICING_LENGTH)
    address = VisibleField(max_length=ADDRESS_LENGTH)

    class Meta:
        model = Order
        fields = [
            *("id", "cake", "icing", "address"),
            *("ticket", "status", "price", "charge", "pickup", "created_at"),
        ]
        read_only_fields = ["ticket", "status", "created_at"]


class AcceptedSerializer(serializers.Serializer[Any]):
    """An operation that will be run, and where to ask how far it came."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField([State.ACCEPTED.value])
    url = serializers.CharField()


class StepSerializer(serializers.Serializer[Any]):
    """One step that was begun."""

    name = serializers.CharField()
    status = serializers.CharField()
    completed_at = serializers.DateTimeField(allow_null=True)


class OutcomeSerializer(serializers.Serializer[Any]):
    """The response there is, and where to get it."""

    status = serializers.IntegerField()
    url = serializers.CharField()


class OperationSerializer(serializers.Serializer[Any]):
    """How far an operation came."""

    id = serializers.UUIDField()
    state = serializers.ChoiceField([state.value for state in State])
    url = serializers.CharField()
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)
    steps = StepSerializer(many=True)
    response = OutcomeSerializer(allow_null=True)


class OrderingRequest(Request):
    """A request in a covered view."""

    idempotency: Operation


# By status, the replies that are no delivery; those of the layer are added to them.
_REFUSED = {
    400: OpenApiTypes.OBJECT,
    401: DetailSerializer,
    402: OpenApiResponse(DetailSerializer, "The card was declined, and the order is cancelled."),
    415: DetailSerializer,
}
_FOUND = {401: DetailSerializer, 404: DetailSerializer}


class DeliveryView(IdempotencyMixin, APIView):
    """``/api/deliveries/``: a cake that is paid and brought to the door."""

    idempotency_required = True
    idempotency_atomic = False
    idempotency_keep_request = True
    # Each step trusts the claim anew, and a call for as long as it may take.
    idempotency_lease = timedelta(seconds=settings.SHOP_LEASE_SECONDS)

    @extend_schema(request=DeliverySerializer, responses={201: DeliverySerializer, **_REFUSED})
    def post(self, request: OrderingRequest) -> Response:
        """Take the order, the money and the cake to the courier, and send the receipt."""
        serializer = DeliverySerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        try:
            order = self.deliver(request, **serializer.validated_data)
        except OperationFailedError as failure:
            if (failure.step, failure.error) != (CHARGE, CardDeclinedError.__name__):
                raise
            # An outcome like any other: it is kept, and repeated.
            detail = {"detail": "The card was declined, and the order is cancelled."}
            return Response(detail, status=status.HTTP_402_PAYMENT_REQUIRED)
        headers = {"Location": order.get_absolute_url()}
        data = DeliverySerializer(order).data
        return Response(data, status=status.HTTP_201_CREATED, headers=headers)

    def deliver(self, request: OrderingRequest, **wish: str) -> Order:
        """The order, delivered."""
        return deliver(request.idempotency, request.user.pk, **wish)


@extend_schema_view(
    post=extend_schema(
        responses={201: DeliverySerializer, 202: AcceptedSerializer, **_REFUSED},
        description="Take the order; what becomes of it is told where the reply says.",
    )
)
class DeliveryLaterView(DeliveryView):
    """``/api/deliveries/later/``: the same for clients that do not wait; the completer runs it."""

    idempotency_respond = "accepted"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse at once what could never be done."""
        super().initial(request, *args, **kwargs)
        if request.method == "POST":
            # Before it is parsed: read from its stream, it could not be stored any more.
            _ = request.body
            DeliverySerializer(data=request.data).is_valid(raise_exception=True)


@extend_schema(exclude=True)
class NoOperationView(APIView):
    """Where an operation would be if its id were one."""

    def get(self, request: Request, rest: str) -> Response:
        """There is none."""
        raise NotFound


class _OperationExtension(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """What django_idempotency tells of an operation."""

    target_class = "django_idempotency.status.api_views.OperationAPIView"

    def view_replacement(self) -> type[APIView]:
        described = extend_schema(responses={200: OperationSerializer, **_FOUND})
        return _described(self.target, described)


class _OperationResponseExtension(OpenApiViewExtension):  # type: ignore[no-untyped-call]
    """The response of an operation; the shop has those of one view."""

    target_class = "django_idempotency.status.api_views.OperationResponseAPIView"

    def view_replacement(self) -> type[APIView]:
        replies = {201: DeliverySerializer, 402: DetailSerializer, **_FOUND}
        return _described(self.target, extend_schema(responses=replies))


def _described(target: type[APIView], get: Any) -> type[APIView]:
    described: type[APIView] = extend_schema_view(get=get)(type(target.__name__, (target,), {}))
    return described
