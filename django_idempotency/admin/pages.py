"""The list's pages, by the place of their first and last record in the index on ``expires_at``.

Nothing is counted and nothing is skipped, so that the last of a million pages costs what the first
one does.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime

from ..models import IdempotencyRecord, RecordQuerySet

#: What the list is always ordered by.
ORDER = ("-expires_at", "-pk")
_OLDER = "older_than"
_NEWER = "newer_than"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: just after a record, on its older or its newer side."""

    side: str
    expires_at: datetime
    id: uuid.UUID

    def __str__(self) -> str:
        return f"{self.expires_at.isoformat()}_{self.id}"

    @property
    def condition(self) -> Q:
        """What stands on that side; its first half is for the index."""
        if self.side == _OLDER:
            tie = Q(expires_at__lt=self.expires_at) | Q(pk__lt=self.id)
            return Q(expires_at__lte=self.expires_at) & tie
        tie = Q(expires_at__gt=self.expires_at) | Q(pk__gt=self.id)
        return Q(expires_at__gte=self.expires_at) & tie


def _read(side: str, text: str) -> Place:
    when, _, record = text.rpartition("_")
    try:
        expires_at = parse_datetime(when)
        if expires_at is not None:
            return Place(side, expires_at, uuid.UUID(record))
    except ValueError:
        pass
    raise IncorrectLookupParameters(text)


def place_in(parameters: Mapping[str, Any]) -> Place | None:
    """The place that a URL names; raises IncorrectLookupParameters for what is none."""
    sides = [side for side in (_OLDER, _NEWER) if side in parameters]
    return _read(sides[0], parameters[sides[0]]) if sides else None


def _place(side: str, record: IdempotencyRecord) -> Place:
    return Place(side, record.expires_at, record.pk)


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where the pages beside them begin."""

    records: list[IdempotencyRecord]
    newer: Place | None = None
    older: Place | None = None


def page_of(records: RecordQuerySet, place: Place | None, size: int) -> Page:
    """One page of ``size`` records, by one statement."""
    backwards = place is not None and place.side == _NEWER
    order = ("expires_at", "pk") if backwards else ORDER
    found = records.filter(place.condition if place else Q()).order_by(*order)
    # One more says whether there is another page.
    read = list(found[: size + 1])
    shown, more = read[:size], len(read) > size
    if backwards:
        shown.reverse()
    if not shown:
        return Page([])
    newer = _place(_NEWER, shown[0]) if (more if backwards else place) else None
    older = _place(_OLDER, shown[-1]) if more or backwards else None
    return Page(shown, newer, older)


class RecordList(ChangeList):
    """Django's list, without its counts, its page numbers and its other orders."""

    page: Page
    newest_url = newer_url = older_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What the search form sends along.
        for side in (_OLDER, _NEWER):
            self.params.pop(side, None)

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found = super().get_filters_params(params)
        return {name: value for name, value in found.items() if name not in (_OLDER, _NEWER)}

    def get_ordering(self, request: HttpRequest, queryset: Any) -> list[Any]:
        return list(ORDER)

    def get_query_string(self, new_params: dict[str, Any] | None = None, remove: Any = None) -> str:
        return super().get_query_string(new_params, [*(remove or ()), _OLDER, _NEWER])

    def get_results(self, request: HttpRequest) -> None:
        place = place_in(request.GET)
        self.page = page = page_of(self.queryset, place, self.list_per_page)
        self.newest_url = self.get_query_string() if place else ""
        self.newer_url, self.older_url = self._url(page.newer), self._url(page.older)
        self.result_list = page.records
        # Of this page. Both the same, or a search would announce a number.
        self.result_count = self.full_result_count = len(page.records)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = None

    def _url(self, place: Place | None) -> str:
        return self.get_query_string({place.side: str(place)}) if place else ""
