"""The life of one key as its record tells it, and who may have it next."""

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, Status
from .standing import Text, clock, distance, standing, written


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened or will; ``when`` is None where its time is not kept."""

    title: Text
    when: datetime | None
    note: Text = ""
    distance: str = ""
    is_over: bool = True


def _moments(record: IdempotencyRecord) -> list[tuple[Text, datetime | None, Text]]:
    claim = _("Claim of attempt %d") % record.attempts if record.attempts else _("Claim")
    told: list[tuple[Text, datetime | None, Text]] = [
        (_("First request"), record.created_at, f"{record.method} {record.path}"),
        (claim, record.claimed_at, ""),
    ]
    if record.status == Status.RELEASED:
        told.append((_("Release"), None, record.error or _("The answer was no outcome.")))
    if record.completed_at:
        told.append((_("Response saved"), record.completed_at, str(record.response_status)))
    told.append((_("End of the lease"), record.lease_expires_at, _vouching(record)))
    return [*told, (_("Expiry"), record.expires_at, "")]


def _vouching(record: IdempotencyRecord) -> Text:
    return _("A row lock vouches for the claim.") if record.atomic else _("It alone is trusted.")


def timeline(record: IdempotencyRecord) -> list[Moment]:
    """The moments of a record that was read with ``now``, in their order."""
    now = clock(record)
    # A release comes after its claim, whenever that was.
    told = sorted(_moments(record), key=lambda moment: moment[1] or record.claimed_at)
    return [
        Moment(title, when, note, distance(when, now) if when else "", not when or when <= now)
        for title, when, note in told
    ]


def takeover(record: IdempotencyRecord) -> Text:
    """Which request may run next with this key, and from when on."""
    place = standing(record)
    if place.mark == "expired":
        return _("The next request with this key runs anew, whatever it asks.")
    if place.status is Status.COMPLETED:
        text = _("Nobody before %(time)s: until then the same request gets the saved response.")
        return text % {"time": written(record.expires_at)}
    return (
        _after_release(record)
        if place.status is Status.RELEASED
        else _from_owner(record, place.mark)
    )


def _after_release(record: IdempotencyRecord) -> Text:
    if record.atomic:
        return _("The next request with this key runs at once, whatever it asks.")
    return _("The same request runs at once; another one is refused.")


def _from_owner(record: IdempotencyRecord, mark: str) -> Text:
    if record.atomic:
        return _(
            "The same request, as soon as nobody holds the row: its owner, while it lives, does."
        )
    if mark == "stale":
        return _("The same request, at once: the lease has ended.")
    text = _("Nobody before %(time)s, when the lease ends.")
    return text % {"time": written(record.lease_expires_at)}
