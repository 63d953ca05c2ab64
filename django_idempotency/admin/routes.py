"""The addresses below a record's page at which a person decides something about its operation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path

from ..models import IdempotencyRecord
from .actions import record_url
from .decisions import complete, settle

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[IdempotencyRecord]
else:
    _ModelAdmin = admin.ModelAdmin

Decision = Callable[[_ModelAdmin, HttpRequest, IdempotencyRecord], HttpResponse]


class DecisionsAdmin(_ModelAdmin):
    """Lets those with the permission ``complete`` decide, of records they may look at."""

    def has_complete_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.complete")

    def get_urls(self) -> list[Any]:
        return [
            self._route("complete", complete),
            self._route("settle", settle),
            *super().get_urls(),
        ]

    def _route(self, name: str, decision: Decision) -> Any:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            return self._decide(request, object_id, decision)

        # A view that is run in here opens its own transactions, and calls others outside of any.
        view._non_atomic_requests = set(connections)  # type: ignore[attr-defined]
        label = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        return path(f"<path:object_id>/{name}/", self.admin_site.admin_view(view), name=label)

    def _decide(self, request: HttpRequest, object_id: str, decision: Decision) -> HttpResponse:
        if not (self.has_view_permission(request) and self.has_complete_permission(request)):
            raise PermissionDenied
        record = self.get_object(request, unquote(object_id))
        if record is None or request.method != "POST":
            return redirect(record_url(self, unquote(object_id)))
        return decision(self, request, record)
