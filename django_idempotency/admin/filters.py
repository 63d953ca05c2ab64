"""The filters of the list."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..models import RecordQuerySet
from .standing import local

FROM, UNTIL = "expires_from", "expires_until"
#: Every other lookup in a URL is refused: a condition on a body would reveal what is in it.
LOOKUPS = frozenset(("status__exact", "atomic__exact", "standing", FROM, UNTIL))

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_RANGES: tuple[tuple[str | Promise, timedelta | None, timedelta | None], ...] = (
    (_("Any time"), None, None),
    (_("Within the next hour"), timedelta(), _HOUR),
    (_("Within the next 24 hours"), timedelta(), _DAY),
    (_("In the past hour"), -_HOUR, timedelta()),
    (_("In the past 24 hours"), -_DAY, timedelta()),
    (_("In the past 7 days"), -7 * _DAY, timedelta()),
)


_PENDING = Q(envelope__due_at__isnull=False)
_GIVEN_UP = Q(envelope__isnull=False, envelope__due_at__isnull=True)
_STANDINGS: dict[str, tuple[str | Promise, Callable[[RecordQuerySet], RecordQuerySet]]] = {
    "stale": (_("Stale: in progress beyond its lease"), RecordQuerySet.stale),
    "expired": (_("Expired: answers no more"), RecordQuerySet.expired),
    "pending": (_("Pending: a completer finishes it"), lambda found: found.filter(_PENDING)),
    "given-up": (_("Given up: a person has to look"), lambda found: found.filter(_GIVEN_UP)),
}


class StandingFilter(admin.SimpleListFilter):
    """A filter by what is derived from the status: by the database's clock, or by the completer."""

    title = _("standing")
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, title) for name, (title, _narrow) in _STANDINGS.items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        _title, narrow = _STANDINGS.get(self.value() or "", ("", lambda found: found))
        return narrow(queryset)


def moment(text: str) -> datetime:
    """The date or time in a text, in the reader's time zone unless it names one; or ValueError."""
    found = parse_datetime(text)
    if found is None and (day := parse_date(text)) is not None:
        found = datetime(day.year, day.month, day.day)
    if found is None:
        raise ValueError(text)
    return timezone.make_aware(found) if timezone.is_naive(found) and settings.USE_TZ else found


def moment_in(parameters: Mapping[str, Any], name: str) -> datetime | None:
    """The moment in this parameter of a URL; raises IncorrectLookupParameters if it is no time."""
    try:
        return moment(parameters[name]) if parameters.get(name) else None
    except ValueError as error:
        raise IncorrectLookupParameters(str(error)) from error


class ExpiryFilter(admin.ListFilter):
    """A range of ``expires_at``, the only time with an index; the bounds can be typed in."""

    title = _("expiry")
    template = "admin/django_idempotency/expiry_filter.html"

    def __init__(
        self,
        request: HttpRequest,
        params: dict[str, list[str]],
        model: type[Model],
        model_admin: "admin.ModelAdmin[Any]",
    ) -> None:
        super().__init__(request, params, model, model_admin)
        for name in (FROM, UNTIL):
            if values := params.pop(name, None):
                self.used_parameters[name] = values[-1]

    def expected_parameters(self) -> list[str | None]:
        return [FROM, UNTIL]

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since, until = (moment_in(self.used_parameters, name) for name in (FROM, UNTIL))
        if since is not None:
            queryset = queryset.filter(expires_at__gte=since)
        return queryset if until is None else queryset.filter(expires_at__lt=until)

    def choices(self, changelist: ChangeList) -> Iterator[Mapping[str, object]]:
        now = timezone.now().replace(second=0, microsecond=0)
        for title, *bounds in _RANGES:
            asked = {
                name: None if bound is None else (now + bound).isoformat()
                for name, bound in zip((FROM, UNTIL), bounds, strict=True)
            }
            yield {
                "display": title,
                "query_string": changelist.get_query_string(asked),
                "selected": self.used_parameters == {k: v for k, v in asked.items() if v},
                **self._typed(changelist),
            }

    def _typed(self, changelist: ChangeList) -> dict[str, object]:
        others = {k: v for k, v in changelist.params.items() if k not in (FROM, UNTIL)}
        return {"others": others, **{name: self._shown(name) for name in (FROM, UNTIL)}}

    def _shown(self, name: str) -> str:
        """The bound as the value of an ``<input type="datetime-local">``."""
        when = moment_in(self.used_parameters, name)
        return local(when).strftime("%Y-%m-%dT%H:%M") if when else ""
