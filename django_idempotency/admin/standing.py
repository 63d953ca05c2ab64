"""The state of a record as the admin shows it: stored status, derived marks, and times in words."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
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
    """A record's status, the marks derived from it, and since when it has that status."""

    status: Status
    #: ``accepted`` (no attempt has begun), ``stale`` or ``expired``, or empty.
    mark: str
    #: ``pending`` (for the completer) or ``given-up`` (by it), or empty.
    completion: str
    since: datetime
    now: datetime

    @property
    def marks(self) -> list[tuple[str, Text]]:
        """Both marks, those that are not empty, each with its words."""
        return [(mark, _MARKS[mark]) for mark in (self.mark, self.completion) if mark]

    @property
    def is_left(self) -> bool:
        """Whether no attempt runs the operation, and no lease or lock vouches for one."""
        return self.status is Status.RELEASED or self.mark in ("stale", "accepted")

    @property
    def age(self) -> str:
        """How long the record has had its status."""
        return duration(self.since, self.now)


def clock(record: IdempotencyRecord) -> datetime:
    """The database's time when the record was read."""
    return record.now  # type: ignore[attr-defined,no-any-return]


def envelope_of(record: IdempotencyRecord) -> IdempotencyEnvelope | None:
    """The stored request of a record, if it has one."""
    return getattr(record, "envelope", None)


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
    """The standing of a record, which must have been read with the annotation ``now``."""
    now = clock(record)
    since, mark = record.completed_at or record.claimed_at, _mark(record, now)
    return Standing(Status(record.status), mark, _completion(record, mark), since, now)


def duration(begin: datetime, end: datetime) -> str:
    """The time between two moments, in its largest unit."""
    length = max(end - begin, timedelta())
    if length < timedelta(minutes=1):
        return str(_("%d s") % length.total_seconds())
    return timesince(begin, end, depth=1)


def distance(when: datetime, now: datetime) -> str:
    """How far away a moment is, in the past or in the future."""
    if when > now:
        return str(_("in %(time)s") % {"time": duration(now, when)})
    return str(_("%(time)s ago") % {"time": duration(when, now)})


def local(when: datetime) -> datetime:
    """A moment in the reader's time zone, where the project has time zones."""
    return timezone.localtime(when) if settings.USE_TZ else when


def written(when: datetime) -> str:
    """A moment in the reader's time zone and in the format of the reader's language."""
    return formats.date_format(local(when), "DATETIME_FORMAT")
