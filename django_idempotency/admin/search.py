"""The search: ``scope key`` and ids use the primary key, other terms a limited number of rows."""

import uuid
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.db.models import Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from ..http.keys import record_id
from ..models import IdempotencyRecord, RecordQuerySet

# Neither key nor path has an index; so many rows are read in a fraction of a second.
WINDOW = 100_000
HELP = _(
    "“scope key” or a record's id finds any record. A key alone, or the beginning of a path"
    " (“/api/…”), is looked for among the 100,000 records that expire last before the end of the"
    " chosen time."
)


def id_in(text: str) -> uuid.UUID | None:
    """The id in a text; None if there is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _windowed(records: RecordQuerySet, until: datetime | None) -> RecordQuerySet:
    """Those of the records that are among the :data:`WINDOW` that expire last before ``until``."""
    newest = IdempotencyRecord.objects.using(records.db).order_by("-expires_at")
    if until is not None:
        newest = newest.filter(expires_at__lt=until)
    edge: Any = newest.values("expires_at")[WINDOW : WINDOW + 1]
    # With fewer rows there is no edge, and every record is in the window.
    ever = datetime.fromtimestamp(0, UTC if settings.USE_TZ else None)
    return records.filter(expires_at__gt=Coalesce(Subquery(edge), Value(ever)))


def search(records: RecordQuerySet, term: str, until: datetime | None = None) -> RecordQuerySet:
    """The records that match ``term``; ``until`` is the end of the chosen range of expiry."""
    # A project's own scope may contain spaces; a key never does.
    scope, _space, key = term.strip().rpartition(" ")
    if not key:
        return records
    if scope:
        return records.filter(pk=record_id(scope.strip(), key))
    if (named := id_in(key)) and (by_id := records.filter(pk=named)).exists():
        return by_id
    found = _windowed(records, until)
    return found.filter(path__startswith=key) if key.startswith("/") else found.filter(key=key)
