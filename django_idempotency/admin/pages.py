"""The pages of the list: each begins at a place in the index on ``expires_at``.

No rows are counted or skipped, so the last of a million pages costs as much as the first.
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

from ..models import IdempotencyRecord, RecordQuerySet

#: The only order of the list.
ORDER = ("-expires_at", "-pk")
_OLDER = "older_than"
_NEWER = "newer_than"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: next to a record, on its older or its newer side."""

    side: str
    expires_at: datetime
    id: uuid.UUID

    def __str__(self) -> str:
        return f"{self.expires_at.isoformat()}_{self.id}"

    @property
    def condition(self) -> Q:
        """The condition for records on that side; its first half lets the index be used."""
        if self.side == _OLDER:
            tie = Q(expires_at__lt=self.expires_at) | Q(pk__lt=self.id)
            return Q(expires_at__lte=self.expires_at) & tie
        tie = Q(expires_at__gt=self.expires_at) | Q(pk__gt=self.id)
        return Q(expires_at__gte=self.expires_at) & tie


def _read(side: str, text: str) -> Place:
    when, _, record = text.rpartition("_")
    try:
        return Place(side, datetime.fromisoformat(when), uuid.UUID(record))
    except ValueError as error:
        raise IncorrectLookupParameters(text) from error


def place_in(parameters: Mapping[str, Any]) -> Place | None:
    """The place in a URL, or None; raises IncorrectLookupParameters if it cannot be read."""
    sides = [side for side in (_OLDER, _NEWER) if side in parameters]
    return _read(sides[0], parameters[sides[0]]) if sides else None


def _place(side: str, record: IdempotencyRecord) -> Place:
    return Place(side, record.expires_at, record.pk)


@dataclass(frozen=True, slots=True)
class Page:
    """The records of a page, and where the pages before and after it begin."""

    records: list[IdempotencyRecord]
    newer: Place | None = None
    older: Place | None = None


def page_of(records: RecordQuerySet, place: Place | None, size: int) -> Page:
    """One page of ``size`` records at most, read by one statement."""
    backwards = place is not None and place.side == _NEWER
    order = ("expires_at", "pk") if backwards else ORDER
    found = records.filter(place.condition if place else Q()).order_by(*order)
    # One record more shows whether there is another page.
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
    """Django's list without counts, page numbers and other orders."""

    page: Page
    newest_url = newer_url = older_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The search form sends these parameters along, and a search begins at the first page.
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
        # The count of this page; if the two differed, a search would show them as its result.
        self.result_count = self.full_result_count = len(page.records)
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = True
        self.paginator = None

    def _url(self, place: Place | None) -> str:
        return self.get_query_string({place.side: str(place)}) if place else ""
