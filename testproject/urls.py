"""Where everything is: the shop, its API and the admin."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("testproject.shop.urls")),
    path("api/", include("testproject.shop.api_urls")),
    path("admin/", admin.site.urls),
]
