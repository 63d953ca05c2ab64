"""With django-idempotency-key: a middleware, and a mark on the view."""

from django.urls import path
from idempotency_key.decorators import idempotency_key

from benchmarks.sites.orders.views import Bare

urlpatterns = [
    path("orders/", idempotency_key(Bare.as_view())),
    path("bare/", Bare.as_view()),
]
