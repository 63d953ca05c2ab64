"""``include("django_idempotency.urls")``: the status pages of accepted operations.

With REST framework's authentication use ``include("django_idempotency.api_urls")``.
"""

from .status.views import OperationResponseView, OperationView, pages

app_name = "django_idempotency"
urlpatterns = pages(OperationView, OperationResponseView)
