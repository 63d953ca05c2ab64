"""``include("django_idempotency.api_urls")``: the same pages, behind REST framework's checks."""

from .status.api_views import OperationAPIView, OperationResponseAPIView
from .status.views import pages

app_name = "django_idempotency"
urlpatterns = pages(OperationAPIView, OperationResponseAPIView)
