"""The kitchen behind the doors of Django REST framework."""

from typing import Any

from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.decorators import action, api_view
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin

from .models import Order
from .views import ACTS, RESPONSES, kitchen


def invalid(request: Any, nonce: str) -> HttpResponseBase:
    """Raises REST framework's ValidationError after the write."""
    raise ValidationError({"cake": nonce})


ACTS["invalid"] = invalid
RESPONSES[True] = Response


@idempotent
@api_view(["GET", "POST", "PATCH"])
def above_api_view(request: Any) -> Any:
    """The decorator above REST framework's."""
    return kitchen(request)


@api_view(["GET", "POST", "PATCH"])
@idempotent
def below_api_view(request: Any) -> Any:
    """The decorator below REST framework's."""
    return kitchen(request)


class Api(APIView):
    """REST framework's view, unprotected."""

    def get(self, request: Any) -> Any:
        return kitchen(request)

    def post(self, request: Any) -> Any:
        return kitchen(request)


class MixinApi(IdempotencyMixin, Api):
    """The mixin."""


class TokenApi(MixinApi):
    """A view for callers with a token or a session."""

    authentication_classes = (TokenAuthentication, SessionAuthentication)
    permission_classes = (IsAuthenticated,)


class Generic(IdempotencyMixin, GenericAPIView[Order]):
    """The mixin on a generic view."""

    queryset = Order.objects.all()

    def get(self, request: Any) -> Any:
        return kitchen(request)

    def post(self, request: Any) -> Any:
        return kitchen(request)


class MethodApi(APIView):
    """The decorator on a method of REST framework's view."""

    def get(self, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    def post(self, request: Any) -> Any:
        return kitchen(request)


@method_decorator(idempotent, name="dispatch")
class DispatchApi(Api):
    """Django's method_decorator on REST framework's dispatch."""


class Orders(IdempotencyMixin, ViewSet):
    """The mixin on a ViewSet with an extra action, and with one that has opted out."""

    def list(self, request: Any) -> Any:
        return kitchen(request)

    def create(self, request: Any) -> Any:
        return kitchen(request)

    @action(detail=False, methods=["post"])
    def extra(self, request: Any) -> Any:
        return kitchen(request)

    @action(detail=False, methods=["post"])
    @idempotent(methods=())
    def free(self, request: Any) -> Any:
        return kitchen(request)


class ModelOrders(IdempotencyMixin, ModelViewSet[Order]):
    """The mixin on a ModelViewSet, whose own methods answer."""

    queryset = Order.objects.all()

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return kitchen(request)

    def create(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return kitchen(request)

    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return kitchen(request)


class OneAction(ViewSet):
    """The decorator on one action of a ViewSet."""

    def list(self, request: Any) -> Any:
        return kitchen(request)

    @idempotent
    def create(self, request: Any) -> Any:
        return kitchen(request)


@idempotent
class Twice(MixinApi):
    """Doors in doors: class, mixin and method."""

    @idempotent
    def post(self, request: Any) -> Any:
        return kitchen(request)
