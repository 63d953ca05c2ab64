"""The admin, and the test views whose operations it shows."""

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.support import stage

urlpatterns = [path("admin/", admin.site.urls), *stage.urlpatterns]


def of_its_own(get_response: Callable[[HttpRequest], HttpResponse]) -> object:
    """A middleware that serves these URLs to the admin only, whatever ROOT_URLCONF says."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/admin/"):
            request.urlconf = __name__
        return get_response(request)

    return middleware
