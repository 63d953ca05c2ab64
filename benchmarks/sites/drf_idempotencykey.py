"""With drf-idempotencykey: a mixin."""

from django.urls import path
from drf_idempotencykey.mixins import DrfIdempotencyKeyMixin

from benchmarks.sites.orders.views import Bare


class Orders(DrfIdempotencyKeyMixin, Bare):
    """Its records have transactions of their own, beside the view's."""


urlpatterns = [path("orders/", Orders.as_view()), path("bare/", Bare.as_view())]
