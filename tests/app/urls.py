"""Every door, by name."""

from typing import Any

from django.contrib import admin
from django.urls import include, path
from rest_framework.routers import SimpleRouter

from django_idempotency.decorators import idempotent

from . import views

router = SimpleRouter()
router.register("viewset", views.Orders, basename="viewset")
router.register("action", views.OneAction, basename="action")

#: The doors that pass the shared contract, with and without REST framework.
PLAIN_DOORS: dict[str, Any] = {
    "function": views.function,
    "called": views.called,
    "class": views.Decorated.as_view(),
    "method": views.Method.as_view(),
    "as-view": idempotent(views.Plain.as_view()),
    "method-decorator": views.MethodDecorator.as_view(),
    "dispatch-decorator": views.DispatchDecorator.as_view(),
}
API_DOORS: dict[str, Any] = {
    "above": views.above_api_view,
    "below": views.below_api_view,
    "mixin": views.MixinApi.as_view(),
    "generic": views.Generic.as_view(),
    "api-method": views.MethodApi.as_view(),
    "api-as-view": idempotent(views.Api.as_view()),
    "api-dispatch-decorator": views.DispatchApi.as_view(),
    "twice": views.Twice.as_view(),
}
DOORS = [f"/{name}/" for name in (*PLAIN_DOORS, *API_DOORS, "viewset", "viewset/extra", "action")]
OTHERS: dict[str, Any] = {
    "form": views.form,
    "required": views.required,
    "plainly": views.plainly,
    "bare": views.bare,
    "who": views.who,
    "token": views.TokenApi.as_view(),
    "unprotected": views.Api.as_view(),
}

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include(router.urls)),
    *(path(f"{name}/", view) for name, view in (PLAIN_DOORS | API_DOORS | OTHERS).items()),
]
