"""The records in the hands of people and clean-ups: one statement a method, as in :mod:`.store`.

What is live is never touched; :mod:`.maintenance` decides what is to be done, and says why not.
"""

import functools
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.db import connections

from .dialects import dialect_of
from .models import Status
from .statements import UpkeepTexts
from .store import Found, Store


@functools.cache
def _words(alias: str) -> UpkeepTexts:
    connection = connections[alias]
    return UpkeepTexts(connection, dialect_of(connection))


class Upkeep(Store):
    """The records of one database alias, and what is done to them outside of requests."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._upkeep = _words(alias)

    def _latest(self) -> AbstractContextManager[None]:
        return nullcontext() if self.joined else self.dialect.latest(self.connection)

    def _value(self, text: str, params: Mapping[str, Any]) -> Any | None:
        with self.connection.cursor() as cursor:
            cursor.execute(text, params)
            row = cursor.fetchone()
        return None if row is None else row[0]

    def free(self, record: uuid.UUID, found: Found, error: str) -> bool:
        """Release a record whose owner is dead, if it is as ``found``; never waits."""
        if self._is_alive(found):
            return False
        params = self._held(record, found.token) | {
            "status": Status.RELEASED.value,
            "error": error,
        }
        unchanged = nullcontext() if self.joined else self.dialect.unchanged(self.connection)
        return self._if_free(self._upkeep.free, params, unchanged, wait=0.0)

    def expire(self, record: uuid.UUID) -> bool:
        """Let a finished record answer no more; the next request with its key runs anew."""
        return self._execute(self._upkeep.expire, {"id": self.dialect.uuid(record)}) == 1

    def delete(self, record: uuid.UUID) -> bool:
        """Delete one record that answers no more, if nobody holds it."""
        params = {"id": self.dialect.uuid(record), "limit": 1}
        with self._latest():
            return self._execute(self._upkeep.delete, params) == 1

    def purge(self, low: Any, high: Any, limit: int) -> int:
        """Delete up to ``limit`` records that nobody holds, of those that expired in a window.

        After ``low`` and not after ``high``: see :meth:`edge`. Returns how many it were.
        """
        params = {"low": low, "high": high, "limit": limit}
        with self._latest():
            return self._execute(self._upkeep.purge, params)

    def moment(self, age: timedelta) -> Any:
        """The database's time so long ago, as it wants to have it back."""
        return self._value(self._upkeep.moment, {"age": self.dialect.duration(-age)})

    def edge(self, low: Any, until: Any, size: int) -> Any | None:
        """When the ``size``-th record after ``low`` expires; None if that is after ``until``."""
        return self._value(self._upkeep.edge, {"low": low, "until": until, "skip": size - 1})

    def abandoned(self, low: Any, high: Any) -> int:
        """How many records in that window are in progress although their lease is over."""
        return int(self._value(self._upkeep.abandoned, {"low": low, "high": high}) or 0)

    def purge_counts(self, age: timedelta) -> int:
        """Delete the counts that are older; how many rows it were."""
        return self._execute(self._upkeep.purge_counts, {"age": self.dialect.duration(-age)})

    def scope_edge(self, scope: str, low: Any, size: int) -> Any | None:
        """The id of the ``size``-th finished record of one caller after ``low``; None without."""
        return self._value(self._upkeep.scope_edge, {"scope": scope, "low": low, "skip": size - 1})

    def erase(self, scope: str, low: Any, high: Any) -> int:
        """Wipe one caller's finished records in a window of ids, those that nobody holds.

        Id, status and times stay, so that the key is known to have been used. Returns how many it
        were.
        """
        params = {"scope": scope, "low": low, "high": high, "fingerprint": b""}
        with self._latest():
            return self._execute(self._upkeep.erase, params | {"response_headers": "[]"})

    def forget(self, scope: str, low: Any, high: Any, limit: int) -> int:
        """Delete up to ``limit`` of them instead; how many it were."""
        params = {"scope": scope, "low": low, "high": high, "limit": limit}
        with self._latest():
            return self._execute(self._upkeep.forget, params)
