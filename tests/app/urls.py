"""Every door by its name, and those of Django REST framework if that is installed."""

from importlib.util import find_spec
from typing import Any

from django.contrib import admin
from django.urls import include, path

from django_idempotency.decorators import idempotent

from . import aviews, ninja, views

#: The doors that pass the shared contract.
PLAIN_DOORS: dict[str, Any] = {
    "function": views.function,
    "called": views.called,
    "wrapped": views.wrapped,
    "wrapping": views.wrapping,
    "class": views.Decorated.as_view(),
    "method": views.Method.as_view(),
    "as-view": idempotent(views.Plain.as_view()),
    "method-decorator": views.MethodDecorator.as_view(),
    "dispatch-decorator": views.DispatchDecorator.as_view(),
}
API_DOORS: dict[str, Any] = {}
OTHERS: dict[str, Any] = {
    "exempt": views.exempt,
    "form": views.form,
    "required": views.required,
    "plainly": views.plainly,
    "bare": views.bare,
    "nothing": views.nothing,
    "who": views.who,
}

if find_spec("rest_framework"):
    from . import api

    API_DOORS |= {
        "above": api.above_api_view,
        "below": api.below_api_view,
        "mixin": api.MixinApi.as_view(),
        "generic": api.Generic.as_view(),
        "api-method": api.MethodApi.as_view(),
        "api-as-view": idempotent(api.Api.as_view()),
        "api-dispatch-decorator": api.DispatchApi.as_view(),
        "twice": api.Twice.as_view(),
        "viewset": api.Orders.as_view({"get": "list", "post": "create"}),
        "viewset/extra": api.Orders.as_view({"get": "list", "post": "extra"}),
        "model": api.ModelOrders.as_view({"get": "list", "post": "create"}),
        "model/partial": api.ModelOrders.as_view({"get": "list", "post": "partial_update"}),
        "action": api.OneAction.as_view({"get": "list", "post": "create"}),
    }
    OTHERS |= {
        "viewset/free": api.Orders.as_view({"post": "free"}),
        "token": api.TokenApi.as_view(),
    }

ASYNC = [f"/{name}/" for name in aviews.DOORS]
API = [f"/{name}/" for name in API_DOORS]
DOORS = [*(f"/{name}/" for name in PLAIN_DOORS), *API]

EVERY_DOOR = PLAIN_DOORS | API_DOORS | aviews.DOORS | aviews.OTHERS | OTHERS

urlpatterns = [
    path("admin/", admin.site.urls),
    path("ninja/", ninja.api.urls),
    path("", include("django_idempotency.urls")),
    path("v1/charges", views.charge),
    *(path(f"{name}/", view) for name, view in EVERY_DOOR.items()),
]


def served(*doors: str) -> list[str]:
    """Those of the given doors that there are."""
    return [door for door in doors if door in DOORS]
