"""The addresses of the API."""

from django.urls import include, path
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.routers import SimpleRouter

from .api import OrderView, OrderViewSet

app_name = "shop-api"

_router = SimpleRouter()
_router.register("orders", OrderViewSet, basename="order")

urlpatterns = [
    path("token/", obtain_auth_token, name="token"),
    path("orders/", OrderView.as_view(), name="orders"),
    path("v2/", include(_router.urls)),
]
