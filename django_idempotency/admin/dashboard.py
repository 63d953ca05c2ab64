"""The dashboard: what happened to keys lately, and how many records are in which state."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import router
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import formats, timezone
from django.utils.translation import get_language
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..models import IdempotencyCount, IdempotencyRecord
from ..monitoring.figures import PERIODS, EventCounts, Figures, Series, figures, series
from .standing import Text, distance


@dataclass(frozen=True, slots=True)
class Measure:
    """A number on the dashboard, and the events that it adds up."""

    name: str
    title: Text
    meaning: Text
    events: tuple[str, ...]
    is_trouble: bool = False

    def total(self, events: dict[str, EventCounts], period: str) -> int:
        """How often the measure's events happened in that period."""
        return sum(getattr(events[name], period) for name in self.events if name in events)


MEASURES = (
    Measure(
        "protected",
        _("Requests protected"),
        _("a view ran under a key"),
        ("claimed", "taken_over"),
    ),
    Measure("replayed", _("Replays served"), _("duplicates prevented"), ("replayed",)),
    Measure("conflicted", _("Conflicts"), _("duplicates of running requests"), ("conflicted",)),
    Measure("mismatched", _("Mismatches"), _("one key for two requests"), ("mismatched",), True),
    Measure("failed", _("Failures"), _("attempts that raised or answered 5xx"), ("failed",), True),
    Measure("taken_over", _("Takeovers"), _("of attempts that died"), ("taken_over",), True),
)
TITLES: dict[str, Text] = {"hour": _("Last hour"), "day": _("Last day"), "week": _("Last week")}
STEPS: dict[str, Text] = {
    "hour": _("per minute"),
    "day": _("per 15 minutes"),
    "week": _("per hour"),
}
EMPTY: dict[str, Text] = {
    "hour": _("Nothing happened to a key in the last hour."),
    "day": _("Nothing happened to a key in the last day."),
    "week": _("Nothing happened to a key in the last week."),
}


def _grouped(number: int) -> str:
    """The number with its digits grouped as in the reader's language."""
    return formats.number_format(number, force_grouping=True)


def _tile(measure: Measure, happened: dict[str, EventCounts], period: str) -> dict[str, Any]:
    """A measure's numbers for every period; the chosen period's number is shown large."""
    totals = {name: measure.total(happened, name) for name in PERIODS}
    return {
        "measure": measure,
        "happened": totals[period] > 0,
        "number": _grouped(totals[period]),
        "numbers": [(name, _grouped(total)) for name, total in totals.items()],
    }


def _steps(history: Series) -> Iterator[dict[str, Any]]:
    """The steps of the series in which something happened, the latest first."""
    columns = [history.of(measure.events) for measure in MEASURES]
    for moment, *numbers in reversed(list(zip(history.times, *columns, strict=True))):
        if any(numbers):
            time = datetime.fromtimestamp(moment, timezone.get_current_timezone())
            yield {"time": time, "numbers": [_grouped(number) for number in numbers]}


def _chart(history: Series, period: str) -> dict[str, Any]:
    """The data for the page's script, which draws the charts."""
    return {
        "times": history.times,
        "step": int(PERIODS[period].step.total_seconds()),
        "zone": timezone.get_current_timezone_name(),
        "language": get_language(),
        "measures": {measure.name: history.of(measure.events) for measure in MEASURES},
    }


def _tabs(chosen: str) -> list[dict[str, Any]]:
    return [{"name": name, "title": TITLES[name], "chosen": name == chosen} for name in PERIODS]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the records; ``query`` filters the list to the records it counts."""

    name: str
    title: Text
    value: Text
    query: str = ""


#: The figures that count records: name, title and filter.
_COUNTED = (
    ("in_progress", _("In progress"), "status__exact=in_progress"),
    ("stale", _("In progress beyond their lease"), "standing=stale"),
    ("completed", _("Completed"), "status__exact=completed"),
    ("released", _("Released"), "status__exact=released"),
    ("expired", _("Expired, not cleaned up"), "standing=expired"),
)


def _rows(found: Figures) -> list[Row]:
    now = timezone.now()
    since, expiry, size = found.oldest_in_progress, found.next_expiry, found.table_bytes
    oldest = _("none") if since is None else distance(now - since, now)
    coming = _("none") if expiry is None else distance(now + expiry, now)
    taken = _("unknown here") if size is None else filesizeformat(size)
    return [
        *(Row(name, title, _grouped(getattr(found, name)), url) for name, title, url in _COUNTED),
        Row("oldest_in_progress", _("Oldest in progress"), oldest),
        Row("next_expiry", _("Next expiry"), coming),
        Row("table_bytes", _("Size of the table"), taken),
    ]


@admin.register(IdempotencyCount)
class DashboardAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The dashboard's page, for users with the permission to view idempotency counts."""

    def get_urls(self) -> list[URLPattern]:
        """Only the dashboard, at the address where Django would list the counts."""
        name = "django_idempotency_idempotencycount_changelist"
        return [path("", self.admin_site.admin_view(self.changelist_view), name=name)]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The dashboard of the last hour, day or week."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        asked = request.GET.get("period", "")
        using = router.db_for_write(IdempotencyRecord)
        context = {
            **self.admin_site.each_context(request),
            **_context(using, asked if asked in PERIODS else "hour"),
            "title": _("Idempotency dashboard"),
            "opts": self.opts,
            "may_list": request.user.has_perm("django_idempotency.view_idempotencyrecord"),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/django_idempotency/dashboard.html", context)


def _context(using: str, period: str) -> dict[str, Any]:
    found, history = figures(using), series(using, PERIODS[period])
    tiles = [_tile(measure, found.events, period) for measure in MEASURES]
    return {
        "tabs": _tabs(period),
        "period": period,
        "tiles": tiles,
        "records": found,
        "rows": _rows(found),
        "steps": list(_steps(history)),
        "step": STEPS[period],
        "empty": "" if any(tile["happened"] for tile in tiles) else EMPTY[period],
        "chart": _chart(history, period),
        "counting": conf.keeps_statistics(),
    }
