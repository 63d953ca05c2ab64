"""What people and clean-ups do to records: expire, release, delete, clean up, erase.

Each is one guarded statement, so that a request which comes at the same moment is never disturbed:
what is live is left alone, and the answer says why.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, Status
from ..monitoring.events import Kind, tell
from ..protocol.claims import seems_dead
from ..replay_cache.replays import invalidate as invalidate_replays
from ..storage.upkeep import Upkeep
from ..storage.values import Found


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


def _refusal(found: Found | None, store: Upkeep) -> Released | None:
    if found is None:
        return Released.GONE
    if found.status is not Status.IN_PROGRESS:
        return Released.FINISHED
    if not seems_dead(found, store.dialect.grace):
        return Released.ALIVE if found.atomic else Released.TRUSTED
    return None


def release(store: Upkeep, record: uuid.UUID, *, dry_run: bool = False) -> Released:
    """Free a key whose owner is dead; a live one keeps it.

    A ``dry_run`` says what its age and its lease say, and does not ask for the owner's lock.
    """
    found = store.read(record)
    refusal = _refusal(found, store)
    if refusal is not None or found is None:
        return refusal or Released.GONE
    if dry_run:
        return Released.DONE
    if not store.free(record, found, BY_HAND):
        return Released.ALIVE
    invalidate_replays(store.alias, [record])
    tell_of(Kind.RELEASED, store, [record], error=BY_HAND)
    return Released.DONE


@dataclass(frozen=True, slots=True)
class Expired:
    """Records that answer no more; whether the replay cache has said so, if there is one.

    Otherwise it may answer in their stead for as long as ``IDEMPOTENCY_CACHE_MAX_AGE``.
    """

    ids: list[uuid.UUID]
    is_forgotten: bool


def expire(store: Upkeep, records: Iterable[uuid.UUID]) -> Expired:
    """Let finished records answer no more; those for which that is new."""
    done = [record for record in records if store.expire(record)]
    # After their COMMIT: who looks into the database from now on sees it.
    is_forgotten = invalidate_replays(store.alias, done)
    tell_of(Kind.EXPIRED, store, done)
    return Expired(done, is_forgotten)


def tell_of(kind: Kind, store: Upkeep, ids: list[uuid.UUID], **details: Any) -> None:
    """Tell what happened to these records."""
    records = IdempotencyRecord.objects.using(store.alias).filter(pk__in=ids)
    for record in records.only("id", "scope", "key", "method", "path"):
        tell(kind, store.alias, record, **details)


def delete(store: Upkeep, records: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Delete those of the records that answer no more, and that nobody holds."""
    done = [record for record in records if store.delete(record)]
    invalidate_replays(store.alias, done)
    return done
