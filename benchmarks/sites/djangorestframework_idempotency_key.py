"""With djangorestframework-idempotency-key: a middleware, and a decorator on the method."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_idempotency_key.decorators import simple_idempotency_key_method

from benchmarks.sites.orders.views import Bare, place


class Orders(APIView):
    """The decorator opens the transaction."""

    @simple_idempotency_key_method
    def post(self, request: Request) -> Response:
        return place(request)


urlpatterns = [path("orders/", Orders.as_view()), path("bare/", Bare.as_view())]
