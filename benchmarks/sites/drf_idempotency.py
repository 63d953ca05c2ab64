"""With drf-idempotency: a middleware, which protects every request that has a key."""

from django.urls import path

from benchmarks.sites.orders.views import Bare

urlpatterns = [path("orders/", Bare.as_view()), path("bare/", Bare.as_view())]
