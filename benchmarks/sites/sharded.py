"""The site on several databases: a record and the rows of its request are in the same one.

Who asks decides in which, as where customers are spread over servers; a header may name one
instead, as where several tables are compared.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.sites.orders.models import Order
from benchmarks.sites.orders.views import write
from django_idempotency.rest_framework import IdempotencyMixin

CUSTOMER, ALIAS = "HTTP_X_CUSTOMER", "HTTP_X_ALIAS"


class Somebody(BaseAuthentication):
    """Takes everybody for whom he says he is."""

    def authenticate(self, request: Request) -> tuple[User, None]:
        return User(pk=int(request.META.get(CUSTOMER, "1"))), None


def shard_of(customer: int) -> str:
    """Where a customer's rows are."""
    aliases = list(settings.DATABASES)
    return aliases[customer % len(aliases)]


def alias_of(request: Any) -> str:
    """Where a request's rows are."""
    return request.META.get(ALIAS) or shard_of(request.user.pk)


def place(request: Request) -> Response:
    """Write the order there."""
    return Response(write(request.data, Order.objects.using(alias_of(request))), status=201)


class Orders(IdempotencyMixin, APIView):
    """With protection."""

    authentication_classes = (Somebody,)
    idempotency_using = alias_of

    def post(self, request: Request) -> Response:
        return place(request)


class Bare(APIView):
    """Without."""

    authentication_classes = (Somebody,)

    def post(self, request: Request) -> Response:
        with transaction.atomic(using=alias_of(request)):
            return place(request)


urlpatterns = [path("orders/", Orders.as_view()), path("bare/", Bare.as_view())]
