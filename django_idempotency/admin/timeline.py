"""The history of one record with its steps, and which request may have the key next."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, Status
from .standing import Text, clock, distance, envelope_of, standing, written
from .steps import ShownStep


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened or will happen; ``when`` is None if its time is not stored."""

    title: Text
    when: datetime | None
    note: Text = ""
    step: ShownStep | None = None
    distance: str = ""
    is_over: bool = True


def _claim(record: IdempotencyRecord) -> Moment:
    if standing(record).mark == "accepted":
        return Moment(_("Accepted"), record.claimed_at, _("Nobody has begun to run it."))
    title = _("Claim of attempt %d") % record.attempts if record.attempts else _("Claim")
    return Moment(title, record.claimed_at)


def _time_of(step: ShownStep) -> datetime:
    return step.row.completed_at or step.row.started_at


def _steps(steps: Iterable[ShownStep]) -> Iterable[Moment]:
    return (Moment(step.row.get_kind_display(), _time_of(step), step=step) for step in steps)


def _ends(record: IdempotencyRecord) -> Iterable[Moment]:
    """The end of the last attempt, and what comes after it."""
    if record.status == Status.RELEASED:
        yield Moment(_("Release"), None, record.error or _("The answer was no outcome."))
    if record.completed_at:
        yield Moment(_("Response saved"), record.completed_at, str(record.response_status))
    yield Moment(_("End of the lease"), record.lease_expires_at, _vouching(record))
    envelope = envelope_of(record)
    if envelope and envelope.due_at:
        yield Moment(_("Due for a completer"), envelope.due_at, envelope.error)
    yield Moment(_("Expiry"), record.expires_at)


def _vouching(record: IdempotencyRecord) -> Text:
    return _("A row lock vouches for the claim.") if record.atomic else _("It alone is trusted.")


def _last_sign(record: IdempotencyRecord, steps: Iterable[ShownStep]) -> datetime:
    """The latest time at which the last attempt is known to have run."""
    signs = (step.row.started_at if step.is_resolved else _time_of(step) for step in steps)
    return max([record.claimed_at, *signs])


def timeline(record: IdempotencyRecord, steps: list[ShownStep]) -> list[Moment]:
    """The moments of a record in their order; it must have been read with ``now``."""
    now, last = clock(record), _last_sign(record, steps)
    first = Moment(_("First request"), record.created_at, f"{record.method} {record.path}")
    told = [first, _claim(record), *_steps(steps), *_ends(record)]
    # The time of a release is not stored, but it comes after everything that its attempt did.
    told.sort(key=lambda moment: moment.when or last)
    return [
        replace(moment, distance=distance(when, now), is_over=when <= now)
        if (when := moment.when)
        else moment
        for moment in told
    ]


def takeover(record: IdempotencyRecord, *, has_steps: bool) -> Text:
    """Which request may run next with this key, and from when."""
    place = standing(record)
    if place.mark == "expired":
        return _("The next request with this key runs anew, whatever it asks.")
    if place.status is Status.COMPLETED:
        text = _("Nobody before %(time)s: until then the same request gets the saved response.")
        return text % {"time": written(record.expires_at)}
    return (
        _after_release(record, has_steps=has_steps)
        if place.status is Status.RELEASED
        else _from_owner(record, place.mark)
    )


def _after_release(record: IdempotencyRecord, *, has_steps: bool) -> Text:
    if record.atomic and not has_steps:
        return _("The next request with this key runs at once, whatever it asks.")
    return _("The same request runs at once; another one is refused.")


def _from_owner(record: IdempotencyRecord, mark: str) -> Text:
    if record.atomic:
        return _(
            "The same request, as soon as nobody holds the row: its owner, while it lives, does."
        )
    if mark in ("stale", "accepted"):
        return _("The same request, at once: the lease has ended.")
    text = _("Nobody before %(time)s, when the lease ends.")
    return text % {"time": written(record.lease_expires_at)}
