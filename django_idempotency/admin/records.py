"""The list of records, and the page of one record."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.defaultfilters import filesizeformat
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, RecordQuerySet, Status, UtcNow
from ..storage.values import StoredResponse
from .actions import DELETE, EXPIRE, FROM_RECORD, RELEASE, RecordAction
from .bodies import body_of
from .decisions import DecisionsAdmin
from .filters import LOOKUPS, UNTIL, ExpiryFilter, StandingFilter, moment_in
from .pages import ORDER, RecordList
from .search import HELP, search
from .standing import clock, distance, envelope_of, standing, written
from .steps import ShownSteps, steps_of
from .timeline import takeover, timeline

_STATUS_TEMPLATE = "admin/django_idempotency/idempotencyrecord/status.html"
_SHORT_KEY, _SHORT_SCOPE, _SHORT_PATH = 22, 22, 40
#: The parameters of a URL that ask for the stored response and for the outputs of steps.
_RESPONSE, _OUTPUTS = "response", "outputs"


def _short(text: str, length: int) -> str:
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return format_html('<span title="{}">{}</span>', text, cut) if cut != text else text


def _distant(when: datetime, record: IdempotencyRecord) -> str:
    exactly = written(when)
    return format_html('<time title="{}">{}</time>', exactly, distance(when, clock(record)))


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(DecisionsAdmin):
    """Shows records, and offers the actions of :mod:`django_idempotency.maintenance`."""

    list_display = (
        "short_key", "short_scope", "request_line", "status_and_age", "attempts", "size",
        "created", "expires",
    )  # fmt: skip
    list_filter = ("status", StandingFilter, ExpiryFilter, "atomic")
    # Django shows a search box only where this is set; search() does not use it.
    search_fields = ("pk",)
    search_help_text = HELP
    ordering = ORDER
    sortable_by = ()
    actions = ("expire", "release", "delete_selected")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    # The page of a record shows no form.
    fields = readonly_fields = ("key",)

    class Media:
        css = {"all": ("django_idempotency/admin.css",)}

    @admin.display(description=_("key"))
    def short_key(self, record: IdempotencyRecord) -> str | Promise:
        """The beginning of the key, which may have 255 characters."""
        return _("(erased)") if record.is_erased else _short(record.key, _SHORT_KEY)

    @admin.display(description=_("scope"))
    def short_scope(self, record: IdempotencyRecord) -> str:
        return _short(record.scope, _SHORT_SCOPE)

    @admin.display(description=_("request"))
    def request_line(self, record: IdempotencyRecord) -> str:
        return format_html("{} {}", record.method, _short(record.path, _SHORT_PATH))

    @admin.display(description=_("status"))
    def status_and_age(self, record: IdempotencyRecord) -> str:
        return render_to_string(_STATUS_TEMPLATE, {"standing": standing(record)})

    @admin.display(description=_("size"))
    def size(self, record: Any) -> str | Promise:
        if record.body_size is not None:
            return filesizeformat(record.body_size)
        return _("omitted") if record.status == Status.COMPLETED else "-"

    @admin.display(description=_("created"))
    def created(self, record: IdempotencyRecord) -> str:
        return _distant(record.created_at, record)

    @admin.display(description=_("expires"))
    def expires(self, record: IdempotencyRecord) -> str:
        return _distant(record.expires_at, record)

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdempotencyRecord]:
        """All records from the database that writes them, without their stored responses."""
        records: QuerySet[IdempotencyRecord] = super().get_queryset(request)
        records = records.using(router.db_for_write(self.model))
        heavy = ("response_body", "response_headers", "envelope__request")
        light = records.select_related("envelope").defer(*heavy)
        return light.annotate(now=UtcNow(), body_size=Length("response_body"))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordList]:
        return RecordList

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return search(queryset, search_term, moment_in(request.GET, UNTIL)), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in LOOKUPS

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Always False: only requests make records."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Always False: only the protocol changes records."""
        return False

    def has_expire_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.expire")

    def has_release_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.release")

    def has_response_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.view_response")

    @admin.action(description=_("Expire: the next request runs anew"), permissions=["expire"])
    def expire(self, request: HttpRequest, records: RecordQuerySet) -> HttpResponse | None:
        """Expire the finished records; those in progress stay as they are."""
        return self.carry_out(request, records, EXPIRE)

    @admin.action(description=_("Release: free a stuck key"), permissions=["release"])
    def release(self, request: HttpRequest, records: RecordQuerySet) -> HttpResponse | None:
        """Free the keys whose owners are dead; live owners keep their keys."""
        return self.carry_out(request, records, RELEASE)

    # Django's own action of this name would delete live records.
    @admin.action(description=_("Delete: expired records only"), permissions=["delete"])
    def delete_selected(self, request: HttpRequest, records: RecordQuerySet) -> HttpResponse | None:
        """Delete the expired records; the others stay."""
        return self.carry_out(request, records, DELETE)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Redirect to the record's page, whose own button deletes expired records only."""
        return redirect(admin_urlname(self.opts, "change"), object_id)  # type: ignore[arg-type]

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """The page of one record; it shows the response and the outputs of steps on demand only."""
        record: IdempotencyRecord = kwargs["obj"]
        response = self._response(request, record) if _RESPONSE in request.GET else None
        shows_outputs = _OUTPUTS in request.GET
        steps = self._steps(request, record, with_outputs=shows_outputs)
        envelope = envelope_of(record)
        context |= {
            "standing": standing(record),
            # While a record is in progress, the column holds marks of the protocol.
            "error": record.error if record.status == Status.RELEASED else "",
            "timeline": timeline(record, steps.steps),
            "steps": steps,
            "shows_outputs": shows_outputs,
            "envelope": envelope,
            "due": distance(envelope.due_at, clock(record)) if envelope and envelope.due_at else "",
            "takeover": takeover(record, has_steps=bool(steps.steps)),
            "record_actions": self._record_actions(request, record),
            "from_record": FROM_RECORD,
            "may_complete": self.has_complete_permission(request),
            "may_see_response": self.has_response_permission(request),
            "response": response,
            "body": body_of(response) if response else None,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def _steps(
        self, request: HttpRequest, record: IdempotencyRecord, *, with_outputs: bool
    ) -> ShownSteps:
        """The steps; their outputs need a permission, and the log says who looked at them."""
        if with_outputs and not self.has_response_permission(request):
            raise PermissionDenied
        steps = steps_of(record, with_outputs=with_outputs)
        if with_outputs and steps.have_outputs:
            self.log_change(request, record, gettext("Looked at what steps returned."))
        return steps

    def _record_actions(
        self, request: HttpRequest, record: IdempotencyRecord
    ) -> list[tuple[RecordAction, Any]]:
        """The action that fits the record's state, if the user may carry it out."""
        place = standing(record)
        if place.status is Status.IN_PROGRESS:
            fitting = RELEASE
        else:
            fitting = DELETE if place.mark else EXPIRE
        if fitting.name not in self.get_actions(request):
            return []
        # get_actions() returns tuples up to Django 6.0, and something else later.
        return [(fitting, getattr(self, fitting.name).short_description)]

    def _response(self, request: HttpRequest, record: IdempotencyRecord) -> StoredResponse | None:
        """The stored response, which needs a permission; the log says who looked at it."""
        if not self.has_response_permission(request):
            raise PermissionDenied
        columns = ("response_status", "response_headers", "response_body", "response_codec")
        found = self.get_queryset(request).values_list(*columns).filter(pk=record.pk).first()
        if found is None or found[0] is None:
            return None
        self.log_change(request, record, gettext("Looked at the stored response."))
        status, headers, body, codec = found
        return StoredResponse(status, headers, None if body is None else bytes(body), codec)
