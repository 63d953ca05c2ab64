"""What people and clean-ups do to records: expire, release, delete.

Each is one guarded statement, so that a request which comes at the same moment is never disturbed:
what is live is left alone, and the answer says why.
"""

import uuid
from collections.abc import Iterable
from enum import Enum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from .claims import seems_dead
from .models import Status
from .store import Found, Store


class Released(Enum):
    """What came of the wish to release a record."""

    DONE = "done"
    GONE = "gone"
    FINISHED = "finished"
    TRUSTED = "trusted"
    ALIVE = "alive"

    @property
    def reason(self) -> str | Promise:
        """The same in words, for a person."""
        return _REASONS[self]


_REASONS: dict[Released, str | Promise] = {
    Released.DONE: _("The key is free: the next request with it runs."),
    Released.GONE: _("There is no such record any more."),
    Released.FINISHED: _("It is not in progress."),
    Released.TRUSTED: _(
        "Its claim is still trusted: no row lock vouches for it, and its lease does."
    ),
    Released.ALIVE: _("Its owner lives, or began just now."),
}
#: What ``error`` says of a record that was released by hand.
BY_HAND = "ReleasedByHand"


def _refusal(found: Found | None, store: Store) -> Released | None:
    if found is None:
        return Released.GONE
    if found.status is not Status.IN_PROGRESS:
        return Released.FINISHED
    if not seems_dead(found, store.dialect.grace):
        return Released.ALIVE if found.atomic else Released.TRUSTED
    return None


def release(store: Store, record: uuid.UUID) -> Released:
    """Free a key whose owner is dead; a live one keeps it."""
    found = store.read(record)
    refusal = _refusal(found, store)
    if refusal is not None or found is None:
        return refusal or Released.GONE
    return Released.DONE if store.free(record, found, BY_HAND) else Released.ALIVE


def expire(store: Store, records: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Let finished records answer no more; those for which that is new."""
    return [record for record in records if store.expire(record)]


def delete(store: Store, records: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Delete those of the records that answer no more, and that nobody holds."""
    return [record for record in records if store.delete(record)]
