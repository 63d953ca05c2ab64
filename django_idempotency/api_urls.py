"""``include("django_idempotency.api_urls")``: the same pages, behind REST framework's checks."""

from django.urls import path

from .status.api_views import OperationAPIView, OperationResponseAPIView

app_name = "django_idempotency"
urlpatterns = [
    path("operations/<uuid:record_id>/", OperationAPIView.as_view(), name="operation"),
    path(
        "operations/<uuid:record_id>/response/",
        OperationResponseAPIView.as_view(),
        name="operation-response",
    ),
]
