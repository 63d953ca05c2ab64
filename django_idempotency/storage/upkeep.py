"""The records in the hands of people and clean-ups: one statement a method, as in :mod:`.store`.

What is live is never touched; :mod:`.maintenance` decides what is to be done, and says why not.
"""

import functools
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import (
    IdempotencyCount,
    Status,
)
from .dialects import Dialect, dialect_of
from .records import Store
from .statements import _GUARD, _OWN, _RELEASED, _RUNNING, _Words
from .values import Found


class UpkeepTexts(_Words):
    """The statements of people and clean-ups for one alias; they touch nothing that is live."""

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        super().__init__(connection, dialect)
        over = f"expires_at <= {dialect.now} AND status <> {_RUNNING}"
        self.expire = (
            f"UPDATE {self.table} SET expires_at = {dialect.now} WHERE id = %(id)s"
            f" AND status <> {_RUNNING} AND expires_at > {dialect.now}"
        )
        self.free = self._update_free(
            f"status = {_RELEASED}, error = %(error)s",
            f"{_GUARD} AND (atomic OR lease_expires_at <= {dialect.now})",
        )
        this = f"id = %(id)s AND {over}"
        bare = f"NOT {self._has(self.steps)} AND NOT {self._has(self.envelopes)}"
        self.delete = self._delete_free(f"{this} AND {bare}")
        self.delete_parts = self._every_part(this)
        self.moment = f"SELECT {dialect.moment.format(dialect.later.format('age'))}"
        self.edge = self._edge("expires_at", dialect.moment, "expires_at <= %(until)s")
        window = "expires_at > %(low)s AND expires_at <= %(high)s"
        # What is not finished and can be is left, however old it is.
        finished = f"(status = '{Status.COMPLETED.value}' OR NOT {self._has(self.envelopes)})"
        self.purge = self._delete_free(f"{window} AND {over} AND {bare}")
        self.purge_parts = self._every_part(f"{window} AND {over} AND {finished}")
        parts = f"(EXISTS(SELECT 1 FROM {self.steps}) OR EXISTS(SELECT 1 FROM {self.envelopes}))"
        self.has_parts = f"SELECT {parts}"
        # Asked once a statement instead of twice a row.
        self.purge_bare = self._delete_free(f"{window} AND {over} AND NOT {parts}")
        self.abandoned = (
            f"SELECT COUNT(*) FROM {self.table} WHERE {window} AND status = {_RUNNING}"
            f" AND lease_expires_at <= {dialect.now}"
        )
        self.purge_counts = (
            f"DELETE FROM {self._quote(IdempotencyCount._meta.db_table)}"
            f" WHERE minute <= {dialect.later.format('age')}"
        )
        mine = f"scope = %(scope)s AND status <> {_RUNNING}"
        self.scope_edge = self._edge("id", "{}", mine)
        window_of_ids = f"{mine} AND id > %(low)s AND id <= %(high)s"
        self.ids_of = f"SELECT id FROM {self.table} WHERE {window_of_ids}"
        self.erase_parts = self._every_part(window_of_ids)
        self.erase = self._update_free(self._erased(), f"{window_of_ids} AND {bare}")
        self.forget = self._delete_free(f"{window_of_ids} AND {bare}")

    def _every_part(self, condition: str) -> tuple[str, ...]:
        return tuple(self._delete_parts(parts, condition) for parts in (self.steps, self.envelopes))

    def _edge(self, column: str, spelling: str, condition: str) -> str:
        """Where a window ends that begins after ``low`` and skips rows before its last."""
        # Without a name of its own it would bear the column's on PostgreSQL, and be sorted by.
        return (
            f"SELECT {spelling.format(column)} AS edge FROM {self.table} WHERE {column} > %(low)s"
            f" AND {condition} ORDER BY {column} LIMIT 1 OFFSET %(skip)s"
        )

    def _erased(self) -> str:
        """Nothing is left but an id, a status and times."""
        empty = dict.fromkeys((*_OWN, "method", "path", "error", "response_codec"), "''")
        values = {self._quote(name): value for name, value in empty.items()}
        values["fingerprint"] = self._value("fingerprint")
        values["response_headers"] = (
            f"CASE WHEN status = '{Status.COMPLETED.value}'"
            f" THEN {self._value('response_headers')} ELSE NULL END"
        )
        values["response_body"] = "NULL"
        return ", ".join(f"{name} = {value}" for name, value in values.items())


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
        params = self._held(record, found.token) | {"error": error}
        return self._if_free([self._upkeep.free], params, self._unchanged, wait=0.0)

    def expire(self, record: uuid.UUID) -> bool:
        """Let a finished record answer no more; the next request with its key runs anew."""
        return self._execute(self._upkeep.expire, {"id": self.dialect.uuid(record)}) == 1

    def delete(self, record: uuid.UUID) -> bool:
        """Delete one record that answers no more, if nobody holds it."""
        params = {"id": self.dialect.uuid(record), "limit": 1}
        texts = (*self._upkeep.delete_parts, self._upkeep.delete)
        return self._whole(texts, params) == 1

    def _whole(self, texts: Sequence[str], params: Mapping[str, Any]) -> int:
        """Delete or wipe records with what belongs to them; how many records the last text met.

        A record that somebody let go between two texts still has its parts, and is left.
        """
        # One statement is a transaction by itself, and holds its locks no longer.
        is_one = len(texts) == 1
        one = nullcontext() if is_one else transaction.atomic(using=self.alias, savepoint=False)
        with self._latest(), one:
            return [self._execute(text, params) for text in texts][-1]

    def has_parts(self) -> bool:
        """Whether any operation has steps or an envelope."""
        return bool(self._value(self._upkeep.has_parts, {}))

    def purge(self, low: Any, high: Any, limit: int, *, parts: bool = True) -> int:
        """Delete up to ``limit`` records that nobody holds, of those that expired in a window.

        After ``low`` and not after ``high``: see :meth:`edge`. Returns how many it were. Without
        ``parts``, none while any operation has steps or an envelope.
        """
        params = {"low": low, "high": high, "limit": limit}
        words = self._upkeep
        texts = (*words.purge_parts, words.purge) if parts else (words.purge_bare,)
        return self._whole((*self._unflushed, *texts), params)

    @property
    def _unflushed(self) -> tuple[str, ...]:
        # What a crash of the server brings back has expired, and goes with the next clean-up.
        text = "" if self.joined else self.dialect.unflushed
        return (text,) if text else ()

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

    def ids_of(self, scope: str, low: Any, high: Any) -> list[uuid.UUID]:
        """The ids of one caller's finished records in a window of ids."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._upkeep.ids_of, {"scope": scope, "low": low, "high": high})
            found = [row[0] for row in cursor.fetchall()]
        return [value if isinstance(value, uuid.UUID) else uuid.UUID(value) for value in found]

    def erase(self, scope: str, low: Any, high: Any) -> int:
        """Wipe one caller's finished records in a window of ids, those that nobody holds.

        Id, status and times stay, so that the key is known to have been used. Returns how many it
        were.
        """
        params = {"scope": scope, "low": low, "high": high, "fingerprint": b""}
        texts = (*self._upkeep.erase_parts, self._upkeep.erase)
        return self._whole(texts, params | {"response_headers": "[]"})

    def forget(self, scope: str, low: Any, high: Any, limit: int) -> int:
        """Delete up to ``limit`` of them instead; how many it were."""
        params = {"scope": scope, "low": low, "high": high, "limit": limit}
        return self._whole((*self._upkeep.erase_parts, self._upkeep.forget), params)
