"""With justonce: the view's work as an effect, inside the transaction that its record is in."""

from django.db import transaction
from django.urls import path
from justonce import Idempotent, KeyReuseError, OperationInFlightError
from justonce.stores.django_store import DjangoStore
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.sites.orders.request import HEADER
from benchmarks.sites.orders.views import Bare, write

store = DjangoStore()
engine = Idempotent(store)


def create_tables() -> None:
    """It has no migrations."""
    store.create_table()


class Orders(APIView):
    """Errors become the statuses that its documentation names."""

    def post(self, request: Request) -> Response:
        try:
            with transaction.atomic():
                done = engine.run(
                    request.headers[HEADER], lambda: write(request.data), payload=request.data
                )
        except OperationInFlightError:
            return Response(status=409)
        except KeyReuseError:
            return Response(status=422)
        return Response(done.value, status=201)


urlpatterns = [path("orders/", Orders.as_view()), path("bare/", Bare.as_view())]
