"""``include("django_idempotency.urls")``: where accepted operations are asked for.

With REST framework's authentication it is ``include("django_idempotency.api_urls")``.
"""

from django.urls import path

from .status.views import OperationResponseView, OperationView

app_name = "django_idempotency"
urlpatterns = [
    path("operations/<uuid:record_id>/", OperationView.as_view(), name="operation"),
    path(
        "operations/<uuid:record_id>/response/",
        OperationResponseView.as_view(),
        name="operation-response",
    ),
]
