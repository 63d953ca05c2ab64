"""The records in the admin: to look at, and to expire."""

from typing import Any

from django.contrib import admin, messages
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from .models import IdempotencyRecord
from .store import Store

_SHORT = 24


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Read-only but for one action: an expired key runs anew. Stored bodies are not shown."""

    list_display = (
        "short_key",
        "scope",
        "request_line",
        "status",
        "attempts",
        "created_at",
        "expires_at",
    )
    list_filter = ("status", "atomic")
    search_fields = ("=key", "=scope", "path__startswith")
    ordering = ("-created_at",)
    actions = ("expire",)
    fields = (
        "key", "scope", "method", "path", "status", "attempts", "atomic", "error",
        "response_status", "created_at", "claimed_at", "lease_expires_at", "completed_at",
        "expires_at",
    )  # fmt: skip
    readonly_fields = fields
    show_full_result_count = False

    @admin.display(description=_("key"), ordering="key")
    def short_key(self, record: IdempotencyRecord) -> str:
        """The beginning of a key that may be 255 characters long."""
        return record.key if len(record.key) <= _SHORT else record.key[: _SHORT - 1] + "…"

    @admin.display(description=_("request"), ordering="path")
    def request_line(self, record: IdempotencyRecord) -> str:
        """Method and path in one column."""
        return f"{record.method} {record.path}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        """All records, without their stored responses."""
        return super().get_queryset(request).defer("response_body", "response_headers")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A record is made by a request."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its status is changed by the protocol only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Deleting is for the clean-up command, whose statement repeats its condition."""
        return False

    def has_expire_permission(self, request: HttpRequest) -> bool:
        """Whoever may change records by Django's permissions may expire them."""
        return request.user.has_perm("django_idempotency.change_idempotencyrecord")

    @admin.action(description=_("Expire: the next request runs anew"), permissions=["expire"])
    def expire(self, request: HttpRequest, records: QuerySet[IdempotencyRecord]) -> None:
        """Let finished records answer no more; those in progress are left alone."""
        store = Store(router.db_for_write(IdempotencyRecord))
        done = [record for record in records if store.expire(record.pk)]
        self.log_expired(request, done)
        text = ngettext("%d key expired.", "%d keys expired.", len(done)) % len(done)
        self.message_user(request, text, messages.SUCCESS if done else messages.WARNING)

    def log_expired(self, request: HttpRequest, records: list[IdempotencyRecord]) -> None:
        """Leave a line in the admin's log for each."""
        for record in records:
            self.log_change(request, record, [{"changed": {"fields": ["expires_at"]}}])
