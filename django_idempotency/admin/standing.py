"""What a record's columns mean just now, in words and times for a person."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import formats, timezone
from django.utils.functional import Promise
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, Status

Text = str | Promise


@dataclass(frozen=True, slots=True)
class Standing:
    """A status, what the clock makes of it, and since when it is so."""

    status: Status
    #: ``stale`` or ``expired``, or nothing.
    mark: str
    since: datetime
    now: datetime

    @property
    def label(self) -> Text:
        """The status in words."""
        return self.status.label

    @property
    def mark_label(self) -> Text:
        """What the clock makes of it in words."""
        return {"stale": _("stale"), "expired": _("expired")}.get(self.mark, "")

    @property
    def age(self) -> str:
        """How long it is so."""
        return duration(self.since, self.now)


def clock(record: IdempotencyRecord) -> datetime:
    """The database's time when the record was read."""
    annotated: Any = record
    now: datetime = annotated.now
    return now


def _mark(record: IdempotencyRecord, now: datetime) -> str:
    if record.status == Status.IN_PROGRESS:
        return "stale" if record.lease_expires_at <= now else ""
    return "expired" if record.expires_at <= now else ""


def standing(record: IdempotencyRecord) -> Standing:
    """How a record that was read with ``now`` stands."""
    now = clock(record)
    since = record.completed_at or record.claimed_at
    return Standing(Status(record.status), _mark(record, now), since, now)


def duration(begin: datetime, end: datetime) -> str:
    """How long that is, in its largest unit."""
    length = max(end - begin, timedelta())
    if length < timedelta(minutes=1):
        return str(_("%d s") % length.total_seconds())
    return timesince(begin, end, depth=1)


def distance(when: datetime, now: datetime) -> str:
    """How far away a moment is, and on which side."""
    if when > now:
        return str(_("in %(time)s") % {"time": duration(now, when)})
    return str(_("%(time)s ago") % {"time": duration(when, now)})


def written(when: datetime) -> str:
    """A moment as the reader's language and time zone write it."""
    local = timezone.localtime(when) if timezone.is_aware(when) else when
    return formats.date_format(local, "DATETIME_FORMAT")
