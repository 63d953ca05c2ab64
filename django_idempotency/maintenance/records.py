"""Release, expire and delete single records.

Each is a guarded statement, so it never disturbs a request that comes at the same moment: a live
record stays as it is, and the result says why.
"""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _

from ..models import IdempotencyRecord, Status
from ..monitoring.events import Kind, tell
from ..protocol.rules import seems_dead
from ..replay_cache.replays import invalidate
from ..storage.upkeep import Upkeep
from ..storage.values import Found


class Released(TextChoices):
    """Whether a record was released, or why not."""

    DONE = "done", _("The key is free: the next request with it runs.")
    GONE = "gone", _("There is no such record any more.")
    FINISHED = "finished", _("It is not in progress.")
    TRUSTED = (
        "trusted",
        _("Its claim is still trusted: no row lock vouches for it, and its lease does."),
    )
    ALIVE = "alive", _("Its owner lives, or began just now.")


#: The ``error`` of a record that was released by hand.
BY_HAND = "ReleasedByHand"


def _refusal(found: Found, store: Upkeep) -> Released | None:
    if found.status is not Status.IN_PROGRESS:
        return Released.FINISHED
    if not seems_dead(found, store.dialect.grace):
        return Released.ALIVE if found.atomic else Released.TRUSTED
    return None


def release(store: Upkeep, record: uuid.UUID, *, dry_run: bool = False) -> Released:
    """Free a key whose owner is dead; a live owner keeps its key.

    A ``dry_run`` judges by the claim's age and lease only, and does not try the owner's lock.
    """
    found = store.read(record)
    if found is None:
        return Released.GONE
    if refusal := _refusal(found, store):
        return refusal
    if dry_run:
        return Released.DONE
    if not store.free(record, found, BY_HAND):
        return Released.ALIVE
    invalidate(store.alias, [record])
    tell_of(Kind.RELEASED, store, [record], error=BY_HAND)
    return Released.DONE


@dataclass(frozen=True, slots=True)
class Expired:
    """The records that have expired, and whether the replay cache confirmed that it dropped them.

    Without its confirmation it may replay them for as long as ``IDEMPOTENCY_CACHE_MAX_AGE``.
    """

    ids: list[uuid.UUID]
    is_invalidated: bool


def expire(store: Upkeep, records: Iterable[uuid.UUID]) -> Expired:
    """Finished records expire now; returns those that had not expired before."""
    done = [record for record in records if store.expire(record)]
    # After the COMMIT, so that a request that fills the cache from now on reads the new state.
    is_invalidated = invalidate(store.alias, done)
    tell_of(Kind.EXPIRED, store, done)
    return Expired(done, is_invalidated)


def tell_of(kind: Kind, store: Upkeep, ids: list[uuid.UUID], **details: Any) -> None:
    """Count, log and signal what happened to these records."""
    records = IdempotencyRecord.objects.using(store.alias).filter(pk__in=ids)
    for record in records.only("id", "scope", "key", "method", "path"):
        tell(kind, store.alias, record, **details)


def delete(store: Upkeep, records: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Delete those of the records that have expired and are not locked; returns their ids."""
    done = [record for record in records if store.delete(record)]
    invalidate(store.alias, done)
    return done
