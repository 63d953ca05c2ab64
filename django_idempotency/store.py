"""The records of one database: each step of the protocol as one statement and its answer.

A :class:`Store` speaks for one database alias. One method is one statement; what to do next is
for :mod:`django_idempotency.claims` to decide.
"""

import functools
import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .dialects import Dialect, dialect_of
from .models import Status
from .statements import Texts


@dataclass(frozen=True, slots=True)
class Intent:
    """What a request wants recorded: who asks (scope, key) and what (fingerprint, 32 bytes)."""

    id: uuid.UUID
    scope: str
    key: str
    fingerprint: bytes
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Terms:
    """How a claim is made: the owner's token, which attempt, and how long it is trusted."""

    token: uuid.UUID
    attempts: int
    atomic: bool
    lease: timedelta
    retention: timedelta


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response's lasting parts. ``body`` is None where it was larger than the limit.

    ``codec`` names what the body was encoded with; empty for the bytes as they were sent.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    codec: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was read; ages are by the database's clock, in seconds.

    ``touched`` says that its owner has locked the row at least once (PostgreSQL tells).
    """

    fingerprint: bytes
    status: Status
    token: uuid.UUID
    attempts: int
    atomic: bool
    age: float
    lease_over: bool
    expired: bool
    touched: bool
    response: StoredResponse | None


class Inserted(Enum):
    """What came of a claim's INSERT."""

    OURS = auto()
    LOST = auto()
    LOCKED = auto()


class RowLockedError(Exception):
    """Another transaction holds the row just now, which says nothing about whose it is."""


@functools.cache
def _words(alias: str) -> tuple[Dialect, Texts]:
    connection = connections[alias]
    dialect = dialect_of(connection)
    return dialect, Texts(connection, dialect)


class Store:
    """The records of one database alias, one statement a method, each in the calling thread."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.dialect, self._texts = _words(alias)

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's: a coroutine whose client has gone goes on in another."""
        return connections[self.alias]

    @property
    def joined(self) -> bool:
        """Whether a transaction is open already, of which everything done here is a part."""
        return self.connection.in_atomic_block

    def _execute(self, text: str, params: Mapping[str, Any]) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(text, params)
            return int(cursor.rowcount)

    def _contained(self) -> AbstractContextManager[None]:
        """An error inside leaves an outer transaction usable."""
        return transaction.atomic(using=self.alias) if self.joined else nullcontext()

    def _waiting(self, seconds: float | None) -> AbstractContextManager[None]:
        if seconds is None:
            return nullcontext()
        return self.dialect.waiting(self.connection, seconds)

    def _held(
        self, record: uuid.UUID, holder: uuid.UUID, status: Status = Status.IN_PROGRESS
    ) -> dict[str, Any]:
        d = self.dialect
        return {"id": d.uuid(record), "holder": d.uuid(holder), "held": status.value}

    def _terms(self, intent: Intent, terms: Terms) -> dict[str, Any]:
        d = self.dialect
        return {
            "id": d.uuid(intent.id),
            "token": d.uuid(terms.token),
            "fingerprint": intent.fingerprint,
            "attempts": terms.attempts,
            "atomic": terms.atomic,
            "scope": intent.scope,
            "key": intent.key,
            "method": intent.method,
            "path": intent.path,
            "lease": d.duration(terms.lease),
            "life": d.duration(terms.lease + terms.retention),
        }

    def insert(self, intent: Intent, terms: Terms) -> Inserted:
        """Claim a key nobody has used."""
        d = self.dialect
        params = self._terms(intent, terms)
        unflushed = terms.atomic and not self.joined
        text = self._texts.insert_unflushed if unflushed else self._texts.insert
        try:
            with self._contained(), self._waiting(d.insert_wait(joined=self.joined)):
                return Inserted.OURS if self._execute(text, params) == 1 else Inserted.LOST
        except DatabaseError as error:
            if d.is_locked(error):
                return Inserted.LOCKED
            if d.is_lost(error):
                return Inserted.LOST
            raise

    def read(self, record: uuid.UUID) -> Found | None:
        """The record as it stands committed."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._texts.read, {"id": self.dialect.uuid(record)})
            row = cursor.fetchone()
        return None if row is None else _found(row)

    def take(self, intent: Intent, found: Found, terms: Terms, *, anew: bool) -> bool:
        """Make the record ours if it is as ``found`` and nobody holds it; never waits.

        ``anew`` starts another life of the key.
        """
        if self._is_alive(found):
            return False
        params = self._terms(intent, terms) | {"anew": anew}
        held = self._held(intent.id, found.token, found.status)
        unchanged = nullcontext() if self.joined else self.dialect.unchanged(self.connection)
        return self._if_free(self._texts.take, params | held, unchanged, wait=0.0)

    def _is_alive(self, found: Found) -> bool:
        """Whether the owner of a running attempt is known to live."""
        vouched = found.status is Status.IN_PROGRESS and found.atomic
        if not vouched or self.joined or not self.dialect.probe:
            return False
        with self.connection.cursor() as cursor:
            cursor.execute(self.dialect.probe, {"lock": _lock_of(found.token)})
            return not cursor.fetchone()[0]

    def _if_free(
        self,
        text: str,
        params: Mapping[str, Any],
        context: AbstractContextManager[None],
        *,
        wait: float,
    ) -> bool:
        """Whether the row was there and free; ``wait`` is for databases without rows to skip."""
        waiting = self._waiting(None if self.dialect.skips_locked else wait)
        try:
            with self._contained(), context, waiting:
                return self._execute(text, params) == 1
        except DatabaseError as error:
            if self.dialect.is_locked(error) or self.dialect.is_lost(error):
                return False
            raise

    def lock(self, record: uuid.UUID, token: uuid.UUID, *, wait: float | None) -> bool:
        """Hold the row until the transaction ends; whether it still is this owner's.

        ``wait`` is in seconds; None waits for nothing. Raises RowLockedError.
        """
        text = self._texts.heartbeat_nowait if wait is None else self._texts.heartbeat
        try:
            with self._waiting(wait):
                params = self._held(record, token) | {"lock": _lock_of(token)}
                return self._execute(text, params) == 1
        except DatabaseError as error:
            if self.dialect.skips_locked and self.dialect.is_locked(error):
                raise RowLockedError from error
            if self.dialect.is_lost(error):
                return False
            raise

    def watch(self, record: uuid.UUID, holder: uuid.UUID, seconds: float) -> None:
        """Return when the holder's transaction has ended, at the latest after ``seconds``.

        Returns at once where it has not begun. Not for a time that :meth:`can_watch` denies.
        """
        d = self.dialect
        text = d.watch_text.format(
            table=self._texts.table, id=d.uuid(record), holder=d.uuid(holder), lock=_lock_of(holder)
        )
        try:
            d.watch(self.connection, text, seconds)
        except DatabaseError as error:
            if not d.is_locked(error):
                raise

    def can_watch(self, seconds: float) -> bool:
        """Whether the database can wait that long, and wakes who waits."""
        d = self.dialect
        return bool(d.watch_text) and seconds >= d.shortest_wait and not self.joined

    def complete(
        self,
        record: uuid.UUID,
        token: uuid.UUID,
        response: StoredResponse,
        retention: timedelta,
        *,
        locked: bool,
    ) -> bool:
        """Save the response if the record is this owner's.

        ``locked`` says that :meth:`lock` holds it.
        """
        params = {
            "status": Status.COMPLETED.value,
            "response_status": response.status,
            "response_headers": json.dumps(response.headers),
            "response_body": response.body,
            "response_codec": response.codec,
            "retention": self.dialect.duration(retention),
        }
        return self._settle(self._texts.complete, params | self._held(record, token), locked=locked)

    def release(self, record: uuid.UUID, token: uuid.UUID, *, locked: bool) -> bool:
        """Free the key beside the writes of an attempt that was no outcome."""
        params = self._held(record, token) | {"status": Status.RELEASED.value}
        return self._settle(self._texts.release, params, locked=locked)

    def _settle(self, text: str, params: Mapping[str, Any], *, locked: bool) -> bool:
        # MySQL rolls back a deadlocked transaction by itself, and a view may not care: its early
        # writes are gone then, and so is the mark.
        return self._execute(text + self._texts.mark if locked else text, params) == 1

    def release_late(self, record: uuid.UUID, token: uuid.UUID, error: str) -> bool:
        """Free the key after a rollback, if nobody else holds or owns it; never waits.

        (SQLite has no row to skip: there it waits a moment for its one lock, and after that for
        a retry to take the key over.)
        """
        params = {"status": Status.RELEASED.value, "error": error}
        params |= self._held(record, token)
        return self._if_free(self._texts.release_late, params, nullcontext(), wait=0.25)


def _lock_of(token: uuid.UUID) -> int:
    """The number of an owner's advisory lock: as random as his token."""
    return int.from_bytes(token.bytes[:8], signed=True)


def _found(row: Sequence[Any]) -> Found:
    fingerprint, status, token, attempts, atomic, age, lease_over, expired, touched = row[:9]
    return Found(
        bytes(fingerprint),
        Status(status),
        token if isinstance(token, uuid.UUID) else uuid.UUID(token),
        attempts,
        bool(atomic),
        float(age),
        bool(lease_over),
        bool(expired),
        bool(touched),
        None if row[9] is None else _response(*row[9:]),
    )


def _response(status: int, headers: str, body: Any, codec: str) -> StoredResponse:
    pairs = [(name, value) for name, value in json.loads(headers)]
    return StoredResponse(status, pairs, None if body is None else bytes(body), codec)
