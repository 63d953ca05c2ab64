"""The records of one database: each move of the protocol as one statement and its answer.

A :class:`Store` stands for one database alias. One method is one statement as a rule; what follows
from its answer is for :mod:`django_idempotency.protocol` to decide.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache, partial
from typing import Any

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import Status
from .dialects import Dialect, dialect_of
from .statements import Texts, Words
from .values import Found, Inserted, Intent, StoredResponse, Terms, inserted

#: A prober, or a clean-up, locks a row for one statement; an owner that meets it waits for so long.
PROBER_SECONDS = 1.0


class RowLockedError(Exception):
    """Another transaction holds the row at the moment, which does not tell whose claim it is."""


@cache
def texts_of(kind: type[Words], alias: str) -> tuple[Dialect, Any]:
    """The dialect of a database alias, and its statements of this kind, which are built once."""
    connection = connections[alias]
    dialect = dialect_of(connection)
    return dialect, kind(dialect, connection.ops.quote_name)


class Store:
    """The records of one database alias: one statement a method, run in the calling thread."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.dialect, texts = texts_of(Texts, alias)
        self._texts: Texts = texts

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The calling thread's: a coroutine whose client has gone continues in another thread."""
        return connections[self.alias]

    @property
    def joined(self) -> bool:
        """Whether a transaction is open already; then everything done here is part of it."""
        return self.connection.in_atomic_block

    def _execute(self, text: str, params: Mapping[str, Any]) -> int:
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(text, params)
            return int(cursor.rowcount)

    def _row(self, text: str, params: Mapping[str, Any]) -> Any:
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(text, params)
            return cursor.fetchone()

    def _contained(self) -> AbstractContextManager[None]:
        """An error inside leaves an outer transaction usable."""
        return transaction.atomic(using=self.alias) if self.joined else nullcontext()

    def _waiting(self, seconds: float | None) -> AbstractContextManager[None]:
        return nullcontext() if seconds is None else self.dialect.waiting(self.connection, seconds)

    def _owner_params(self, record: uuid.UUID, token: uuid.UUID) -> dict[str, Any]:
        return {"id": self.dialect.uuid(record), "owner": self.dialect.uuid(token)}

    def _claim_params(self, intent: Intent, terms: Terms) -> dict[str, Any]:
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

    def insert(self, intent: Intent, terms: Terms) -> Inserted | Found:
        """Claim a key without a record; the record that was there, where the INSERT reads it."""
        d, joined = self.dialect, self.joined
        params = self._claim_params(intent, terms)
        try:
            with self._contained(), self._waiting(d.insert_wait(joined=joined)):
                if not d.insert_and_read:
                    made = self._execute(self._texts.insert, params) == 1
                    return Inserted.OURS if made else Inserted.LOST
                unflushed = terms.atomic and not joined
                return inserted(self._insert_and_read(params, joined, unflushed))
        except DatabaseError as error:
            if d.is_locked(error):
                return Inserted.LOCKED
            if d.is_lost(error):
                return Inserted.LOST
            raise

    def _insert_and_read(self, params: Mapping[str, Any], joined: bool, unflushed: bool) -> Any:
        texts, connection = self._texts, self.connection
        if joined:
            return self.dialect.execute_several(connection, texts.claim_joined, params)
        if not self.dialect.prepares(connection):
            text = texts.claim_unflushed if unflushed else texts.claim
            return self._learned(self.dialect.execute_several(connection, text, params))
        return self._row(
            texts.claim_prepared_unflushed if unflushed else texts.claim_prepared, params
        )

    def _learned(self, row: Sequence[Any] | None) -> Sequence[Any] | None:
        if row is None:
            return None
        *row, server = row
        self.dialect.learn(self.connection, server)
        return row

    def read(self, record: uuid.UUID) -> Found | None:
        """The record as it stands committed."""
        row = self._row(self._texts.read, {"id": self.dialect.uuid(record)})
        return None if row is None else Found.of(row)

    def take(self, intent: Intent, found: Found, terms: Terms, *, anew: bool) -> bool:
        """Claim an unlocked record that is still as ``found``; ``anew``: it begins another life."""
        if self._is_alive(found):
            return False
        params = self._claim_params(intent, terms) | self._owner_params(intent.id, found.token)
        params |= {"anew": anew, "found_status": found.status.value}
        other = anew or found.fingerprint != intent.fingerprint
        deletions = (self._texts.delete_steps, self._texts.delete_envelope) if other else ()
        return self._if_free((self._texts.take, *deletions), params, self._unchanged, wait=0.0)

    @property
    def _unchanged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.joined else self.dialect.unchanged(self.connection)

    def has_envelope(self, record: uuid.UUID) -> bool:
        """Whether the request is stored, so that a completer may finish the operation."""
        return bool(self._row(self._texts.has_envelope, {"id": self.dialect.uuid(record)})[0])

    def is_unfinished(self, record: uuid.UUID) -> bool:
        """Whether an earlier attempt has left checkpoints, or a completer may make another."""
        return bool(self._row(self._texts.is_unfinished, {"id": self.dialect.uuid(record)})[0])

    def delete_envelope(self, record: uuid.UUID) -> None:
        """The stored request is gone: no completer takes the operation up any more."""
        self._execute(self._texts.delete_envelope, {"id": self.dialect.uuid(record)})

    def _is_alive(self, found: Found) -> bool:
        """Whether the owner of a running attempt is known to be alive."""
        if found.alive is not None:
            return found.alive
        vouched = found.status is Status.IN_PROGRESS and found.atomic
        if not vouched or self.joined or not self.dialect.probe:
            return False
        return not self._row(self.dialect.probe, {"lock": _lock_of(found.token)})[0]

    def _if_free(
        self,
        texts: Sequence[str],
        params: Mapping[str, Any],
        context: AbstractContextManager[None],
        *,
        wait: float,
    ) -> bool:
        """Whether the first text changed a row; then the others were run in its transaction.

        ``wait`` is how many seconds to wait for a lock on a database that cannot skip locked rows.
        """
        waiting = self._waiting(None if self.dialect.skips_locked else wait)
        one = transaction.atomic(using=self.alias) if len(texts) > 1 else nullcontext()
        try:
            with self._contained(), context, waiting, one:
                first, *others = (partial(self._execute, text, params) for text in texts)
                return first() == 1 and all(other() >= 0 for other in others)
        except DatabaseError as error:
            if self.dialect.is_locked(error) or self.dialect.is_lost(error):
                return False
            raise

    def lock(self, record: uuid.UUID, token: uuid.UUID, *, wait: float | None) -> bool:
        """The row is locked until the transaction ends, if the claim is still this owner's.

        ``wait`` is in seconds; None waits for nothing. Raises RowLockedError.
        """
        text = self._texts.heartbeat_nowait if wait is None else self._texts.heartbeat
        params = self._owner_params(record, token) | {"lock": _lock_of(token)}
        return self._lock_row(text, params, wait)

    def _lock_row(self, text: str, params: Mapping[str, Any], wait: float | None) -> bool:
        try:
            with self._waiting(wait):
                return self._execute(text, params) == 1
        except DatabaseError as error:
            # A transaction that cannot be serialized need not have lost its claim: only the next
            # snapshot tells.
            in_vain = self.dialect.is_locked(error) or self.dialect.is_lost(error)
            if self.dialect.skips_locked and in_vain:
                raise RowLockedError from error
            raise

    def watch(self, record: uuid.UUID, owner: uuid.UUID, seconds: float) -> None:
        """Return when the owner's transaction has ended, at the latest after ``seconds``.

        Returns at once where it has not begun. Only for a time that :meth:`can_watch` allows.
        """
        params = self._owner_params(record, owner) | {"lock": _lock_of(owner)}
        try:
            self.dialect.watch(self.connection, self._texts.watch.format(**params), seconds)
        except DatabaseError as error:
            if not self.dialect.is_locked(error):
                raise

    def can_watch(self, seconds: float) -> bool:
        """Whether the database can wake a waiter up, and wait for as short a time as that."""
        is_long_enough = seconds >= self.dialect.shortest_wait
        return bool(self._texts.watch) and is_long_enough and not self.joined

    def complete(
        self,
        record: uuid.UUID,
        token: uuid.UUID,
        response: StoredResponse,
        retention: timedelta,
        *,
        locked: bool,
        commit: bool = False,
    ) -> bool:
        """The response is saved, if the claim is still this owner's.

        ``locked`` says that :meth:`lock` holds the row. ``commit`` commits the transaction in the
        same message, which only a database that :attr:`can_commit` can do.
        """
        texts = self._texts
        params = {
            "response_status": response.status,
            "response_headers": json.dumps(response.headers),
            "response_body": response.body,
            "response_codec": response.codec,
            "retention": self.dialect.duration(retention),
        } | self._owner_params(record, token)
        if commit:
            return self._settle_and_commit(texts.complete_fenced, params)
        return self._execute(texts.complete_marked if locked else texts.complete, params) == 1

    def release(
        self, record: uuid.UUID, token: uuid.UUID, *, locked: bool, commit: bool = False
    ) -> bool:
        """The key is free again, beside the writes of an attempt that was no outcome."""
        texts, params = self._texts, self._owner_params(record, token)
        if commit:
            return self._settle_and_commit(texts.release_fenced, params)
        return self._execute(texts.release_marked if locked else texts.release, params) == 1

    @property
    def can_commit(self) -> bool:
        """Whether the statement that settles the record and COMMIT can be one message."""
        return bool(self.dialect.fence)

    def _settle_and_commit(self, text: str, params: Mapping[str, Any]) -> bool:
        try:
            self.dialect.commit_with(self.connection, text, params)
        except DatabaseError as error:
            if self.dialect.is_fenced(error):
                return False
            raise
        return True

    def release_late(self, record: uuid.UUID, token: uuid.UUID, error: str) -> bool:
        """The key is free after a rollback, if its claim is still this owner's; never waits.

        SQLite cannot skip a locked row: there it waits for the one write lock for a moment. Where
        that was in vain, the next retry takes the key over.
        """
        params = self._owner_params(record, token) | {"error": error}
        return self._if_free([self._texts.release_late], params, nullcontext(), wait=0.25)


def _lock_of(token: uuid.UUID) -> int:
    """The number of an owner's advisory lock: as random as its token."""
    return int.from_bytes(token.bytes[:8], signed=True)
