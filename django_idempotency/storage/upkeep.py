"""What people and clean-ups do to records: the statements, and one method for each.

They touch nothing that is live. :mod:`django_idempotency.maintenance` decides what is done, and
says why something was not.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.db import transaction

from ..models import Status
from .dialects import Dialect
from .records import Store, texts_of
from .statements import CALLER, GUARD, RELEASED, RUNNING, Words
from .values import Found


class UpkeepTexts(Words):
    """The statements of people and clean-ups; they touch nothing that is live."""

    def __init__(self, dialect: Dialect, quote: Callable[[str], str]) -> None:
        super().__init__(dialect, quote)
        over = f"expires_at <= {dialect.now} AND status <> {RUNNING}"
        self.expire = (
            f"UPDATE {self._table} SET expires_at = {dialect.now} WHERE id = %(id)s"
            f" AND status <> {RUNNING} AND expires_at > {dialect.now}"
        )
        self.free = self._update_free(
            f"status = {RELEASED}, error = %(error)s",
            f"{GUARD} AND (atomic OR lease_expires_at <= {dialect.now})",
        )
        this = f"id = %(id)s AND {over}"
        bare = f"NOT {self._has(self._steps)} AND NOT {self._has(self._envelopes)}"
        self.delete = self._delete_free(f"{this} AND {bare}")
        self.delete_parts = self._every_part(this)
        age = dialect.later.format("age")
        self.moment = f"SELECT {dialect.moment.format(age)}"
        self.edge = self._edge("expires_at", dialect.moment, "expires_at <= %(until)s")
        window = "expires_at > %(low)s AND expires_at <= %(high)s"
        # An operation that a completer can still finish is left, however old it is.
        finished = f"(status = '{Status.COMPLETED.value}' OR NOT {self._has(self._envelopes)})"
        self.purge = self._delete_free(f"{window} AND {over} AND {bare}")
        self.purge_parts = self._every_part(f"{window} AND {over} AND {finished}")
        parts = f"(EXISTS(SELECT 1 FROM {self._steps}) OR EXISTS(SELECT 1 FROM {self._envelopes}))"
        self.has_parts = f"SELECT {parts}"
        # Asked once for a statement instead of twice for each row.
        self.purge_bare = self._delete_free(f"{window} AND {over} AND NOT {parts}")
        self.abandoned = (
            f"SELECT COUNT(*) FROM {self._table} WHERE {window} AND status = {RUNNING}"
            f" AND lease_expires_at <= {dialect.now}"
        )
        self.purge_counts = f"DELETE FROM {self._counts} WHERE minute <= {age}"
        mine = f"scope = %(scope)s AND status <> {RUNNING}"
        self.scope_edge = self._edge("id", "{}", mine)
        window_of_ids = f"{mine} AND id > %(low)s AND id <= %(high)s"
        self.ids_of = f"SELECT id FROM {self._table} WHERE {window_of_ids}"
        self.scope_parts = self._every_part(window_of_ids)
        self.erase_scope = self._update_free(self._erased(), f"{window_of_ids} AND {bare}")
        self.delete_scope = self._delete_free(f"{window_of_ids} AND {bare}")

    def _every_part(self, condition: str) -> tuple[str, ...]:
        return tuple(
            self._delete_parts(parts, condition) for parts in (self._steps, self._envelopes)
        )

    def _edge(self, column: str, spelling: str, condition: str) -> str:
        """The last row of a window that begins after ``low``, with ``skip`` rows before it."""
        # Without a name of its own the value would have the column's on PostgreSQL, and the rows
        # would be sorted by the text.
        return (
            f"SELECT {spelling.format(column)} AS edge FROM {self._table} WHERE {column} > %(low)s"
            f" AND {condition} ORDER BY {column} LIMIT 1 OFFSET %(skip)s"
        )

    def _erased(self) -> str:
        """Leave nothing but an id, a status and times."""
        empty = dict.fromkeys((*CALLER, "method", "path", "error", "response_codec"), "''")
        values = {self._quoted[name]: value for name, value in empty.items()}
        values["fingerprint"] = self._param("fingerprint")
        values["response_headers"] = (
            f"CASE WHEN status = '{Status.COMPLETED.value}'"
            f" THEN {self._param('response_headers')} ELSE NULL END"
        )
        values["response_body"] = "NULL"
        return ", ".join(f"{name} = {value}" for name, value in values.items())


class Upkeep(Store):
    """The records of one database alias, and what is done to them outside of requests."""

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._upkeep_texts: UpkeepTexts = texts_of(UpkeepTexts, alias)[1]

    def _latest(self) -> AbstractContextManager[None]:
        return nullcontext() if self.joined else self.dialect.latest(self.connection)

    def _scalar(self, text: str, params: Mapping[str, Any]) -> Any | None:
        with self.connection.cursor() as cursor:
            cursor.execute(text, params)
            row = cursor.fetchone()
        return None if row is None else row[0]

    def free(self, record: uuid.UUID, found: Found, error: str) -> bool:
        """A record whose owner is dead is released, if it is still as ``found``; never waits."""
        if self._is_alive(found):
            return False
        params = self._owner_params(record, found.token) | {"error": error}
        return self._if_free([self._upkeep_texts.free], params, self._unchanged, wait=0.0)

    def expire(self, record: uuid.UUID) -> bool:
        """A finished record has expired; the next request with its key runs anew."""
        return self._execute(self._upkeep_texts.expire, {"id": self.dialect.uuid(record)}) == 1

    def delete(self, record: uuid.UUID) -> bool:
        """One record that has expired is deleted, if no transaction holds it."""
        params = {"id": self.dialect.uuid(record), "limit": 1}
        texts = (*self._upkeep_texts.delete_parts, self._upkeep_texts.delete)
        return self._in_one_transaction(texts, params) == 1

    def _in_one_transaction(self, texts: Sequence[str], params: Mapping[str, Any]) -> int:
        """Delete or erase records with their parts; how many records the last text changed.

        A record whose lock was released between two of the texts still has its parts, and is left.
        """
        # A single statement is a transaction by itself, which releases its locks at once.
        is_one = len(texts) == 1
        one = nullcontext() if is_one else transaction.atomic(using=self.alias, savepoint=False)
        with self._latest(), one:
            return [self._execute(text, params) for text in texts][-1]

    def has_parts(self) -> bool:
        """Whether any operation has steps or an envelope."""
        return bool(self._scalar(self._upkeep_texts.has_parts, {}))

    def purge(self, low: Any, high: Any, limit: int, *, parts: bool = True) -> int:
        """Delete up to ``limit`` unlocked records of those that expired in a window; how many.

        The window begins after ``low`` and ends at ``high``: see :meth:`edge`. Without ``parts``,
        nothing is deleted while any operation has steps or an envelope.
        """
        params = {"low": low, "high": high, "limit": limit}
        own = self._upkeep_texts
        texts = (*own.purge_parts, own.purge) if parts else (own.purge_bare,)
        return self._in_one_transaction((*self._unflushed, *texts), params)

    @property
    def _unflushed(self) -> tuple[str, ...]:
        # Rows that a crash of the server brings back have expired: the next clean-up deletes them.
        text = "" if self.joined else self.dialect.unflushed
        return (text,) if text else ()

    def moment(self, age: timedelta) -> Any:
        """The database's time that long ago, in the form in which it takes it as a parameter."""
        return self._scalar(self._upkeep_texts.moment, {"age": self.dialect.duration(-age)})

    def edge(self, low: Any, until: Any, size: int) -> Any | None:
        """When the ``size``-th record after ``low`` expires; None if that is after ``until``."""
        return self._scalar(self._upkeep_texts.edge, {"low": low, "until": until, "skip": size - 1})

    def abandoned(self, low: Any, high: Any) -> int:
        """How many records in that window are in progress although their lease is over."""
        return int(self._scalar(self._upkeep_texts.abandoned, {"low": low, "high": high}) or 0)

    def purge_counts(self, age: timedelta) -> int:
        """Delete the counts that are older than ``age``; how many rows those were."""
        return self._execute(self._upkeep_texts.purge_counts, {"age": self.dialect.duration(-age)})

    def scope_edge(self, scope: str, low: Any, size: int) -> Any | None:
        """The id of the ``size``-th finished record of a caller after ``low``; None if fewer."""
        params = {"scope": scope, "low": low, "skip": size - 1}
        return self._scalar(self._upkeep_texts.scope_edge, params)

    def ids_of(self, scope: str, low: Any, high: Any) -> list[uuid.UUID]:
        """The ids of one caller's finished records in a window of ids."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._upkeep_texts.ids_of, {"scope": scope, "low": low, "high": high})
            found = [row[0] for row in cursor.fetchall()]
        return [value if isinstance(value, uuid.UUID) else uuid.UUID(value) for value in found]

    def erase_scope(self, scope: str, low: Any, high: Any) -> int:
        """Erase the unlocked, finished records of one caller in a window of ids; how many.

        Id, status and times stay, so that the key is known to have been used.
        """
        params = {"scope": scope, "low": low, "high": high, "fingerprint": b""}
        texts = (*self._upkeep_texts.scope_parts, self._upkeep_texts.erase_scope)
        return self._in_one_transaction(texts, params | {"response_headers": "[]"})

    def delete_scope(self, scope: str, low: Any, high: Any, limit: int) -> int:
        """Delete up to ``limit`` of the same records; how many."""
        params = {"scope": scope, "low": low, "high": high, "limit": limit}
        texts = (*self._upkeep_texts.scope_parts, self._upkeep_texts.delete_scope)
        return self._in_one_transaction(texts, params)
