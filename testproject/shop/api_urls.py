"""The addresses of the API."""

from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from .api import OrderView, OrderViewSet, TokenView
from .delivery_api import DeliveryLaterView, DeliveryView

app_name = "shop-api"

_router = SimpleRouter()
_router.register("orders", OrderViewSet, basename="order")

urlpatterns = [
    path("token/", TokenView.as_view(), name="token"),
    path("orders/", OrderView.as_view(), name="orders"),
    path("deliveries/", DeliveryView.as_view(), name="deliveries"),
    path("deliveries/later/", DeliveryLaterView.as_view(), name="deliveries-later"),
    path("v2/", include(_router.urls)),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="shop-api:schema"), name="docs"),
]
