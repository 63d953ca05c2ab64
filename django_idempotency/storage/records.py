"""The records of one database: each step of the protocol as one statement and its answer.

A :class:`Store` speaks for one database alias. One method is one statement; what to do next is
for :mod:`django_idempotency.protocol.claims` to decide.
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
from .statements import Texts
from .values import Found, Inserted, Intent, StoredResponse, Terms, inserted


class RowLockedError(Exception):
    """Another transaction holds the row just now, which says nothing about whose it is."""


_NOTHING = nullcontext()


@cache
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
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(text, params)
            return int(cursor.rowcount)

    def _contained(self) -> AbstractContextManager[None]:
        """An error inside leaves an outer transaction usable."""
        return transaction.atomic(using=self.alias) if self.joined else _NOTHING

    def _waiting(self, seconds: float | None) -> AbstractContextManager[None]:
        if seconds is None:
            return _NOTHING
        return self.dialect.waiting(self.connection, seconds)

    def _held(self, record: uuid.UUID, holder: uuid.UUID) -> dict[str, Any]:
        d = self.dialect
        return {"id": d.uuid(record), "holder": d.uuid(holder)}

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

    def insert(self, intent: Intent, terms: Terms) -> Inserted | Found:
        """Claim a key nobody has used; the record that stands in the way, if it shows itself."""
        d, joined = self.dialect, self.joined
        params = self._terms(intent, terms)
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
            return self.dialect.execute_several(connection, texts.joined, params)
        if not self.dialect.prepares(connection):
            text = texts.claim_unflushed if unflushed else texts.claim
            return self._learned(self.dialect.execute_several(connection, text, params))
        with self.dialect.cursor(connection) as cursor:
            cursor.execute(texts.prepared_unflushed if unflushed else texts.prepared, params)
            return cursor.fetchone()

    def _learned(self, row: Sequence[Any] | None) -> Sequence[Any] | None:
        if row is None:
            return None
        *row, server = row
        self.dialect.learn(self.connection, server)
        return row

    def read(self, record: uuid.UUID) -> Found | None:
        """The record as it stands committed."""
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(self._texts.read, {"id": self.dialect.uuid(record)})
            row = cursor.fetchone()
        return None if row is None else Found.of(row)

    def take(self, intent: Intent, found: Found, terms: Terms, *, anew: bool) -> bool:
        """Make the record ours if it is as ``found`` and nobody holds it; never waits.

        ``anew`` starts another life of the key.
        """
        if self._is_alive(found):
            return False
        params = self._terms(intent, terms) | {"anew": anew}
        held = self._held(intent.id, found.token) | {"held": found.status.value}
        other = anew or found.fingerprint != intent.fingerprint
        forget = (self._texts.forget_steps, self._texts.forget_envelope) if other else ()
        return self._if_free((self._texts.take, *forget), params | held, self._unchanged, wait=0.0)

    @property
    def _unchanged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.joined else self.dialect.unchanged(self.connection)

    def _says(self, text: str, record: uuid.UUID) -> bool:
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(text, {"id": self.dialect.uuid(record)})
            return bool(cursor.fetchone()[0])

    def has_envelope(self, record: uuid.UUID) -> bool:
        """Whether a completer may finish the operation."""
        return self._says(self._texts.has_envelope, record)

    def is_unfinished(self, record: uuid.UUID) -> bool:
        """Whether an earlier attempt has left checkpoints, or a completer may make another."""
        return self._says(self._texts.is_unfinished, record)

    def wipe(self, record: uuid.UUID) -> None:
        """Throw the envelope away: the operation is finished."""
        self._execute(self._texts.forget_envelope, {"id": self.dialect.uuid(record)})

    def _is_alive(self, found: Found) -> bool:
        """Whether the owner of a running attempt is known to live."""
        if found.alive is not None:
            return found.alive
        vouched = found.status is Status.IN_PROGRESS and found.atomic
        if not vouched or self.joined or not self.dialect.probe:
            return False
        with self.dialect.cursor(self.connection) as cursor:
            cursor.execute(self.dialect.probe, {"lock": _lock_of(found.token)})
            return not cursor.fetchone()[0]

    def _if_free(
        self,
        texts: Sequence[str],
        params: Mapping[str, Any],
        context: AbstractContextManager[None],
        *,
        wait: float,
    ) -> bool:
        """Whether the row was there and free; then the other texts are run, too, as one with it.

        ``wait`` is for databases without rows to skip.
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
        """Hold the row until the transaction ends; whether it still is this owner's.

        ``wait`` is in seconds; None waits for nothing. Raises RowLockedError.
        """
        text = self._texts.heartbeat_nowait if wait is None else self._texts.heartbeat
        return self._hold(text, self._held(record, token) | {"lock": _lock_of(token)}, wait)

    def _hold(self, text: str, params: Mapping[str, Any], wait: float | None) -> bool:
        try:
            with self._waiting(wait):
                return self._execute(text, params) == 1
        except DatabaseError as error:
            # What cannot be serialized need not be lost: a new snapshot tells.
            in_vain = self.dialect.is_locked(error) or self.dialect.is_lost(error)
            if self.dialect.skips_locked and in_vain:
                raise RowLockedError from error
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
        commit: bool = False,
    ) -> bool:
        """Save the response if the record is this owner's.

        ``locked`` says that :meth:`lock` holds it; ``commit`` ends the transaction with it, which
        takes a database that :attr:`can_commit`.
        """
        params = {
            "response_status": response.status,
            "response_headers": json.dumps(response.headers),
            "response_body": response.body,
            "response_codec": response.codec,
            "retention": self.dialect.duration(retention),
        } | self._held(record, token)
        if commit:
            return self._settle_and_commit(self._texts.complete_fenced, params)
        return self._settle(self._texts.complete, params, locked=locked)

    def release(
        self, record: uuid.UUID, token: uuid.UUID, *, locked: bool, commit: bool = False
    ) -> bool:
        """Free the key beside the writes of an attempt that was no outcome."""
        params = self._held(record, token)
        if commit:
            return self._settle_and_commit(self._texts.release_fenced, params)
        return self._settle(self._texts.release, params, locked=locked)

    @property
    def can_commit(self) -> bool:
        """Whether a statement that settles the record can take the COMMIT along."""
        return bool(self.dialect.fence)

    def _settle(self, text: str, params: Mapping[str, Any], *, locked: bool) -> bool:
        # MySQL rolls back a deadlocked transaction by itself, and a view may not care: its early
        # writes are gone then, and so is the mark.
        return self._execute(text + self._texts.mark if locked else text, params) == 1

    def _settle_and_commit(self, text: str, params: Mapping[str, Any]) -> bool:
        try:
            self.dialect.commit_with(self.connection, text, params)
        except DatabaseError as error:
            if self.dialect.is_fenced(error):
                return False
            raise
        return True

    def release_late(self, record: uuid.UUID, token: uuid.UUID, error: str) -> bool:
        """Free the key after a rollback, if nobody else holds or owns it; never waits.

        (SQLite has no row to skip: there it waits a moment for its one lock, and after that for
        a retry to take the key over.)
        """
        params = self._held(record, token) | {"error": error}
        return self._if_free([self._texts.release_late], params, nullcontext(), wait=0.25)


def _lock_of(token: uuid.UUID) -> int:
    """The number of an owner's advisory lock: as random as his token."""
    return int.from_bytes(token.bytes[:8], signed=True)
