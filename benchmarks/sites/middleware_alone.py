"""With drf-idem or drf-idempotency: a middleware protects every request that has a key."""

from django.urls import path

from benchmarks.sites.orders.views import Bare

urlpatterns = [path("orders/", Bare.as_view()), path("bare/", Bare.as_view())]
