"""Where everything is: the shop, its API and the admin."""

from django.contrib import admin
from django.urls import include, path

from testproject.shop.delivery_api import NoOperationView

urlpatterns = [
    path("", include("testproject.shop.urls")),
    path("api/", include("testproject.shop.api_urls")),
    path("api/", include("django_idempotency.api_urls")),
    # What is no operation's id gets the API's 404, too, and not a page.
    path("api/operations/<path:rest>", NoOperationView.as_view()),
    path("admin/", admin.site.urls),
]
