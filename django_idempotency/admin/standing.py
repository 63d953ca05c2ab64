"""What a record's columns mean just now, in words and times for a person."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import formats, timezone
from django.utils.functional import Promise
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyEnvelope, IdempotencyRecord, Status

Text = str | Promise
_MARKS: dict[str, Text] = {
    "accepted": _("accepted"),
    "stale": _("stale"),
    "expired": _("expired"),
    "pending": _("pending"),
    "given-up": _("given up"),
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A status, what the clock makes of it, and since when it is so."""

    status: Status
    #: ``accepted`` (nobody has begun), ``stale`` or ``expired``, or nothing.
    mark: str
    #: ``pending`` or ``given-up`` where a completer is to finish it, or nothing.
    completion: str
    since: datetime
    now: datetime

    @property
    def label(self) -> Text:
        """The status in words."""
        return self.status.label

    @property
    def marks(self) -> list[tuple[str, Text]]:
        """What the clock and the completer make of it, each with its words."""
        return [(mark, _MARKS[mark]) for mark in (self.mark, self.completion) if mark]

    @property
    def is_left(self) -> bool:
        """Whether nobody runs it, and nobody is trusted to."""
        return self.status is Status.RELEASED or self.mark in ("stale", "accepted")

    @property
    def age(self) -> str:
        """How long it is so."""
        return duration(self.since, self.now)


def clock(record: IdempotencyRecord) -> datetime:
    """The database's time when the record was read."""
    annotated: Any = record
    now: datetime = annotated.now
    return now


def envelope_of(record: IdempotencyRecord) -> IdempotencyEnvelope | None:
    """What is stored for a completer, if the record was read with it."""
    envelope: IdempotencyEnvelope | None = getattr(record, "envelope", None)
    return envelope


def _mark(record: IdempotencyRecord, now: datetime) -> str:
    if record.status != Status.IN_PROGRESS:
        return "expired" if record.expires_at <= now else ""
    if record.lease_expires_at > now:
        return ""
    return "stale" if record.attempts else "accepted"


def _completion(record: IdempotencyRecord, mark: str) -> str:
    envelope = envelope_of(record)
    if envelope is None:
        return ""
    if envelope.due_at is None:
        return "given-up"
    return "pending" if record.status == Status.RELEASED or mark == "stale" else ""


def standing(record: IdempotencyRecord) -> Standing:
    """How a record that was read with ``now`` stands."""
    now = clock(record)
    since, mark = record.completed_at or record.claimed_at, _mark(record, now)
    return Standing(Status(record.status), mark, _completion(record, mark), since, now)


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
