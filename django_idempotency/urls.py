"""``include("django_idempotency.urls")``: the status pages of accepted operations.

With REST framework's authentication use ``include("django_idempotency.api_urls")``.
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
