"""What each database says differently: its clock, its locks, its errors.

A :class:`Dialect` holds fragments of SQL and reads error codes; :mod:`.store` makes statements of
them.
"""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any, ClassVar

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper


class Dialect:
    """Standard SQL; the subclasses say what their database says differently."""

    #: INSERT first, or look first because an INSERT would wait for the owner's lock.
    reads_first: ClassVar[bool] = True
    now: ClassVar[str]
    later: ClassVar[str]
    age: ClassVar[str]
    touched: ClassVar[str] = "FALSE"
    casts: ClassVar[dict[str, str]] = {}
    skip_locked: ClassVar[str] = ""
    for_delete: ClassVar[str] = ""
    nowait: ClassVar[str] = ""
    heartbeat: ClassVar[str] = (
        "UPDATE {table} SET attempts = attempts WHERE id = %s AND token = %s AND status = %s"
    )
    insert_from: ClassVar[str] = ""
    insert_from_unflushed: ClassVar[str] = ""
    on_conflict: ClassVar[str] = ""

    def duration(self, value: timedelta) -> Any:
        """``value`` as the parameter of ``later``."""
        return value

    def uuid(self, value: uuid.UUID) -> Any:
        """``value`` as a parameter."""
        return value

    def is_locked(self, error: DatabaseError) -> bool:
        """Whether a lock, and nothing else, stopped the statement."""
        raise NotImplementedError

    def is_lost(self, error: DatabaseError) -> bool:
        """Whether the INSERT failed because the row is there already."""
        raise NotImplementedError

    def patience(self, connection: BaseDatabaseWrapper) -> float:
        """Seconds during which an INSERT that met a lock is worth another try.

        0 where a lock can only belong to the same key.
        """
        return 0.0

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the database will make a rollback of the transaction's COMMIT."""
        return False

    def insert_wait(self, *, joined: bool) -> float | None:
        """Seconds an INSERT may wait for a lock; None where its text or the database says so."""
        return None

    def waiting(
        self, connection: BaseDatabaseWrapper, seconds: float
    ) -> AbstractContextManager[None]:
        """Statements inside wait at most this long for a lock."""
        raise NotImplementedError


class PostgreSQL(Dialect):
    """PostgreSQL 14 and later, through psycopg."""

    reads_first = False
    # now() is when the transaction began, which may be long ago.
    now = "STATEMENT_TIMESTAMP()"
    later = "STATEMENT_TIMESTAMP() + %s::interval"
    age = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - claimed_at)::float8"
    # xmax is 0 until somebody locks the row, and stays after he is gone; a takeover, which locks
    # before it writes, leaves its own number there, which is then xmin too.
    touched = "xmax::text NOT IN ('0', xmin::text)"
    casts: ClassVar[dict[str, str]] = {
        "id": "::uuid",
        "token": "::uuid",
        "fingerprint": "::bytea",
        "attempts": "::integer",
        "atomic": "::boolean",
        "response_headers": "::jsonb",
        "response_body": "::bytea",
    }
    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED"
    for_delete = "FOR UPDATE SKIP LOCKED"
    nowait = " NOWAIT"
    heartbeat = (
        "SELECT 1 FROM {table} WHERE id = %s AND token = %s AND status = %s FOR NO KEY UPDATE"
    )
    # A row that is being updated or deleted makes ON CONFLICT wait, for ever if its writer is
    # frozen; 20 ms is a hundred times what an ordinary commit takes.
    insert_from = "FROM (SELECT set_config('lock_timeout', '20', true)) AS settings"
    # A claim that a crash of the server loses is a claim whose view's transaction was lost too.
    insert_from_unflushed = (
        "FROM (SELECT set_config('lock_timeout', '20', true),"
        " set_config('synchronous_commit', 'off', true)) AS settings"
    )
    on_conflict = "ON CONFLICT DO NOTHING"

    def is_locked(self, error: DatabaseError) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "55P03"

    def insert_wait(self, *, joined: bool) -> float | None:
        # In a transaction of the caller's, set_config would outlast the statement.
        return 0.02 if joined else None

    def is_lost(self, error: DatabaseError) -> bool:
        # 40001: at REPEATABLE READ and above, the row came after the snapshot.
        return getattr(error.__cause__, "sqlstate", None) in ("23505", "40001")

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        # libpq's PQTRANS_INERROR: an error was caught, and Django knows nothing of it.
        return connection.connection is not None and (
            int(connection.connection.info.transaction_status) == 3
        )

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        change = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
        with connection.cursor() as cursor:
            cursor.execute(change, [f"{max(1, int(seconds * 1000))}ms"])
            before = cursor.fetchone()[0]
            yield
            # After an error the savepoint or transaction takes the setting back by itself.
            cursor.execute(change, [before])


def _busy_milliseconds(raw: Any) -> int:
    (milliseconds,) = raw.execute("PRAGMA busy_timeout").fetchone()
    return int(milliseconds)


class SQLite(Dialect):
    """SQLite 3.35 and later, whose one write lock plays the row lock's part."""

    _CLOCK = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'now'"
    now = _CLOCK + ")"
    later = _CLOCK + ", %s)"
    age = "(JULIANDAY('now') - JULIANDAY(claimed_at)) * 86400.0"

    def duration(self, value: timedelta) -> Any:
        return f"{value.total_seconds():+.3f} seconds"

    def uuid(self, value: uuid.UUID) -> Any:
        return value.hex

    def is_locked(self, error: DatabaseError) -> bool:
        # SQLITE_BUSY and SQLITE_LOCKED, with their extended codes (https://sqlite.org/rescode.html)
        return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in (5, 6)

    def is_lost(self, error: DatabaseError) -> bool:
        # SQLITE_CONSTRAINT_PRIMARYKEY
        return getattr(error.__cause__, "sqlite_errorcode", 0) == 1555

    def insert_wait(self, *, joined: bool) -> float | None:
        # Comes back between slices, to see whether the lock belongs to the same key's owner.
        return None if joined else 0.02

    def patience(self, connection: BaseDatabaseWrapper) -> float:
        connection.ensure_connection()
        return _busy_milliseconds(connection.connection) / 1000

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        connection.ensure_connection()
        raw = connection.connection
        before = _busy_milliseconds(raw)
        raw.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        try:
            yield
        finally:
            raw.execute(f"PRAGMA busy_timeout = {before}")


DIALECTS: dict[str, type[Dialect]] = {"postgresql": PostgreSQL, "sqlite": SQLite}


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """What ``connection`` speaks; standard SQL where records are not supported."""
    return DIALECTS.get(connection.vendor, Dialect)()
