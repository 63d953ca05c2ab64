"""The records of one database: each step of the protocol as one statement and its answer.

A :class:`Store` speaks for one database alias. One method is one statement; what to do next is
for :mod:`django_idempotency.claims` to decide.
"""

import functools
import json
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.db import DatabaseError, connections, transaction

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
    """A response's lasting parts. ``body`` is None where it was larger than the limit."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None


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
        self.connection = connections[alias]
        self.dialect, self._texts = _words(alias)

    @property
    def joined(self) -> bool:
        """Whether a transaction is open already, of which everything done here is a part."""
        return self.connection.in_atomic_block

    def _execute(self, text: str, params: Sequence[Any]) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute(text, params)
            return int(cursor.rowcount)

    def _contained(self) -> AbstractContextManager[None]:
        return transaction.atomic(using=self.alias) if self.joined else nullcontext()

    def _guard(self, record: uuid.UUID, token: uuid.UUID, status: Status) -> list[Any]:
        return [self.dialect.uuid(record), self.dialect.uuid(token), status.value]

    def insert(self, intent: Intent, terms: Terms) -> Inserted:
        """Claim a key nobody has used."""
        d = self.dialect
        lease = d.duration(terms.lease)
        params = [
            d.uuid(intent.id), intent.scope, intent.key, intent.fingerprint,
            Status.IN_PROGRESS.value, d.uuid(terms.token), terms.attempts, terms.atomic,
            intent.method, intent.path, lease, d.duration(terms.lease + terms.retention),
        ]  # fmt: skip
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

    def _waiting(self, seconds: float | None) -> AbstractContextManager[None]:
        if seconds is None:
            return nullcontext()
        return self.dialect.waiting(self.connection, seconds)

    def read(self, record: uuid.UUID) -> Found | None:
        """The record as it stands committed."""
        with self.connection.cursor() as cursor:
            cursor.execute(self._texts.read, [self.dialect.uuid(record)])
            row = cursor.fetchone()
        return None if row is None else _found(row)

    def take(self, record: Intent, found: Found, terms: Terms, *, anew: bool) -> bool:
        """Make the record ours if it is as ``found`` and nobody holds it; never waits.

        ``anew`` starts another life of the key.
        """
        d = self.dialect
        status = found.status
        params = [
            d.uuid(terms.token), Status.IN_PROGRESS.value, record.fingerprint, terms.attempts,
            terms.atomic, record.method, record.path, d.duration(terms.lease),
            d.duration(terms.lease + terms.retention), anew,
            *self._guard(record.id, found.token, status), Status.IN_PROGRESS.value,
        ]  # fmt: skip
        return self._try(self._texts.take, params)

    def _try(self, text: str, params: Sequence[Any]) -> bool:
        never = None if self.dialect.skip_locked else 0.0
        try:
            with self._contained(), self._waiting(never):
                return self._execute(text, params) == 1
        except DatabaseError as error:
            if self.dialect.is_locked(error) or self.dialect.is_lost(error):
                return False
            raise

    def lock(self, record: uuid.UUID, token: uuid.UUID, *, wait: float | None) -> bool:
        """Hold the row until the transaction ends; whether it still is this owner's.

        ``wait`` is in seconds; None waits for nothing. Raises RowLockedError.
        """
        guard = self._guard(record, token, Status.IN_PROGRESS)
        try:
            if wait is None:
                return self._execute(self._texts.heartbeat_nowait, guard) == 1
            with self._waiting(wait):
                return self._execute(self._texts.heartbeat, guard) == 1
        except DatabaseError as error:
            if self.dialect.skip_locked and self.dialect.is_locked(error):
                raise RowLockedError from error
            raise

    def complete(
        self, record: uuid.UUID, token: uuid.UUID, response: StoredResponse, retention: timedelta
    ) -> bool:
        """Save the response if the record is this owner's."""
        kept_for = self.dialect.duration(retention)
        params = [
            Status.COMPLETED.value, response.status, json.dumps(response.headers), response.body,
            kept_for, kept_for, *self._guard(record, token, Status.IN_PROGRESS),
        ]  # fmt: skip
        return self._execute(self._texts.complete, params) == 1

    def release(self, record: uuid.UUID, token: uuid.UUID) -> bool:
        """Free the key beside the writes of an attempt that was no outcome."""
        guard = self._guard(record, token, Status.IN_PROGRESS)
        return self._execute(self._texts.release, [Status.RELEASED.value, *guard]) == 1

    def release_late(self, record: uuid.UUID, token: uuid.UUID, error: str) -> bool:
        """Free the key after a rollback, if nobody else holds or owns it; never waits.

        (SQLite has no row to skip: there it waits a moment for its one lock, and after that for
        a retry to take the key over.)
        """
        guard = self._guard(record, token, Status.IN_PROGRESS)
        params = [Status.RELEASED.value, error, *guard]
        moment = None if self.dialect.skip_locked else 0.25
        with self._waiting(moment):
            return self._execute(self._texts.release_late, params) == 1

    def expire(self, record: uuid.UUID) -> bool:
        """Let a finished record answer no more; the next request with its key runs anew."""
        params = [self.dialect.uuid(record), Status.IN_PROGRESS.value]
        return self._execute(self._texts.expire, params) == 1

    def purge(self, limit: int) -> int:
        """Delete up to ``limit`` expired records that nobody holds; how many it were."""
        running = Status.IN_PROGRESS.value
        return self._execute(self._texts.purge, [running, limit, running])


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


def _response(status: int, headers: str, body: Any) -> StoredResponse:
    pairs = [(name, value) for name, value in json.loads(headers)]
    return StoredResponse(status, pairs, None if body is None else bytes(body))
