"""With django-idempotency: the mixin, all settings as they come."""

from django.urls import include, path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.sites.orders.views import Bare, place
from django_idempotency.rest_framework import IdempotencyMixin


class Orders(IdempotencyMixin, APIView):
    """The mixin opens the transaction."""

    def post(self, request: Request) -> Response:
        return place(request)


urlpatterns = [
    path("orders/", Orders.as_view()),
    path("bare/", Bare.as_view()),
    path("plain/", include("benchmarks.sites.plain")),
]
