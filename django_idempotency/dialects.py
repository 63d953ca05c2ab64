"""What each database says differently: its clock, its locks, its errors.

A :class:`Dialect` holds fragments of SQL and reads error codes; :mod:`.store` makes statements of
them.
"""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, ClassVar

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


class Dialect:
    """Standard SQL; the subclasses say what their database says differently."""

    #: Seconds an owner may need between his claim and his row lock, many times over; an eager
    #: duplicate must not take the claim in between.
    grace: ClassVar[float] = 0.1
    #: INSERT first, or look first because an INSERT would wait for the owner's lock.
    reads_first: ClassVar[bool] = True
    now: ClassVar[str]
    #: Now and the duration of a parameter, whose name is filled in.
    later: ClassVar[str]
    age: ClassVar[str]
    touched: ClassVar[str] = "FALSE"
    casts: ClassVar[dict[str, str]] = {}
    insert_prefix: ClassVar[str] = ""
    insert_from: ClassVar[str] = ""
    insert_from_unflushed: ClassVar[str] = ""
    on_conflict: ClassVar[str] = ""
    #: How a statement takes the rows of ``condition`` that nobody has locked.
    update_free: ClassVar[str] = "UPDATE {table} SET {changes} WHERE {condition}"
    delete_free: ClassVar[str] = (
        "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT %(limit)s)"
        " AND {condition}"
    )
    #: Whether these skip a locked row, instead of waiting for it.
    skips_locked: ClassVar[bool] = True
    heartbeat: ClassVar[str] = "UPDATE {table} SET {mark} WHERE {guard}"
    heartbeat_nowait: ClassVar[str] = heartbeat
    #: Whether the heartbeat leaves a mark, which is gone when the database rolled back unasked.
    marks: ClassVar[bool] = True
    #: Waits until the owner's transaction has ended, and hinders nobody who waits, too; has no
    #: parameters. None: look again.
    watch_text: ClassVar[str] = ""
    #: Whether the owner's transaction has ended, without touching the row. None: just take it.
    probe: ClassVar[str] = ""
    #: The shortest time a lock can be waited for, in seconds.
    shortest_wait: ClassVar[float] = 0.001
    #: How a time that bounds a window is read, so that it comes back as it was; and one before all.
    moment: ClassVar[str] = "{}"
    beginning: ClassVar[str]
    #: The size of ``table`` with its indexes.
    table_bytes: ClassVar[str] = ""
    #: How many rows ``table`` has, and which statuses make up which shares of it, as the planner
    #: takes it. None: only counting tells.
    estimate: ClassVar[str] = ""

    def duration(self, value: timedelta) -> Any:
        """``value`` as the parameter of ``later``."""
        return value

    def uuid(self, value: uuid.UUID) -> Any:
        """``value`` as a parameter."""
        return value

    def is_locked(self, error: Error) -> bool:
        """Whether a lock, and nothing else, stopped the statement."""
        raise NotImplementedError

    def is_lost(self, error: Error) -> bool:
        """Whether the row is there already, or was changed by somebody else meanwhile."""
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

    def unchanged(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """A statement inside touches no version of a row but the one that was there before it."""
        return nullcontext()

    def latest(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """A statement inside sees what others committed meanwhile, whatever the project's level."""
        return nullcontext()

    def watch(self, connection: BaseDatabaseWrapper, text: str, seconds: float) -> None:
        """Run ``watch_text`` in autocommit, for so long at most."""
        with self.waiting(connection, seconds), connection.cursor() as cursor:
            cursor.execute(text)


class PostgreSQL(Dialect):
    """PostgreSQL 14 and later, through psycopg."""

    reads_first = False
    # Only who died before he began costs it; elsewhere everybody who died young does.
    grace = 0.25
    # now() is when the transaction began, which may be long ago.
    now = "STATEMENT_TIMESTAMP()"
    later = "STATEMENT_TIMESTAMP() + %({})s::interval"
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
    update_free = (
        "UPDATE {table} SET {changes} WHERE id IN"
        " (SELECT id FROM {table} WHERE {condition} FOR NO KEY UPDATE SKIP LOCKED)"
    )
    # An array is made once. IN may become a join that asks again for each row, and each time gets
    # the next ones: more than the limit. A row that is locked stays where it is (ctid).
    delete_free = (
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY"
        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))"
        " AND {condition}"
    )
    # The row lock fences; the advisory lock of the same transaction is what others look at and wait
    # for, because whoever waits for a row lock leaves his number in xmax.
    heartbeat = (
        "SELECT pg_advisory_xact_lock(%(lock)s) FROM {table} WHERE {guard} FOR NO KEY UPDATE"
    )
    heartbeat_nowait = heartbeat + " NOWAIT"
    # is_aborted() tells, and a mark would cost a second version of the row.
    marks = False
    watch_text = "SELECT pg_advisory_xact_lock_shared({lock})"
    probe = "SELECT pg_try_advisory_xact_lock_shared(%(lock)s)"
    # As text it bears its offset; without USE_TZ, Django would cut that off, and in one hour of the
    # year nobody could tell which was meant.
    moment = "({})::text"
    beginning = "-infinity"
    table_bytes = "SELECT pg_total_relation_size(quote_ident(%(table)s)::regclass)"
    # -1 rows, or no shares, before the table is analysed for the first time.
    estimate = (
        "SELECT c.reltuples, s.most_common_vals::text::text[], s.most_common_freqs"
        " FROM pg_class c LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::text"
        " AND s.tablename = c.relname AND s.attname = 'status'"
        " WHERE c.oid = quote_ident(%(table)s)::regclass"
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

    def is_locked(self, error: Error) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "55P03"

    def insert_wait(self, *, joined: bool) -> float | None:
        # In a transaction of the caller's, set_config would outlast the statement.
        return 0.02 if joined else None

    def is_lost(self, error: Error) -> bool:
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

    def unchanged(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        # At READ COMMITTED, whoever is late locks the newest version of the row, if only to see
        # that it is not his: a young claim would seem touched. Here that is an error.
        return self._isolated(connection, "REPEATABLE READ")

    def latest(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        return self._isolated(connection, "READ COMMITTED")

    @contextmanager
    def _isolated(self, connection: BaseDatabaseWrapper, level: str) -> Iterator[None]:
        with transaction.atomic(using=connection.alias):
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            yield

    def watch(self, connection: BaseDatabaseWrapper, text: str, seconds: float) -> None:
        # One text is one transaction: it ends in the server, not when the client finds the time.
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}; {text}")


def _errno(error: Error) -> int:
    args = getattr(error.__cause__, "args", ())
    return args[0] if args and isinstance(args[0], int) else 0


class MySQL(Dialect):
    """MySQL 8, through mysqlclient or PyMySQL."""

    # NOW() is in the server's time zone.
    now = "UTC_TIMESTAMP(6)"
    later = "UTC_TIMESTAMP(6) + INTERVAL %({})s MICROSECOND"
    age = "TIMESTAMPDIFF(MICROSECOND, claimed_at, UTC_TIMESTAMP(6)) / 1000000"
    # The lock stands in a derived table, read first (STRAIGHT_JOIN): an UPDATE cannot skip locked
    # rows by itself, nor name its own table in a plain subquery.
    _JOIN = "STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.id = free.id"
    update_free = (
        "UPDATE (SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED) AS free"
        f" {_JOIN} SET {{changes}}"
    )
    # The condition stands outside, too, where "id" must mean one column only.
    delete_free = (
        "DELETE {table} FROM (SELECT id AS free_id FROM {table} WHERE {condition} LIMIT %(limit)s"
        " FOR UPDATE SKIP LOCKED) AS free STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY)"
        " ON {table}.id = free.free_id WHERE {condition}"
    )
    heartbeat_nowait = (
        "UPDATE (SELECT id FROM {table} WHERE {guard} FOR UPDATE NOWAIT) AS free"
        f" {_JOIN} SET {{mark}}"
    )
    watch_text = (
        "SELECT 1 FROM {table} WHERE id = '{id}' AND token = '{holder}'"
        " AND status = 'in_progress' LOCK IN SHARE MODE"
    )
    shortest_wait = 1.0
    beginning = "1000-01-01 00:00:00"
    table_bytes = (
        "SELECT data_length + index_length FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name = %(table)s"
    )

    def duration(self, value: timedelta) -> Any:
        return value // timedelta(microseconds=1)

    def uuid(self, value: uuid.UUID) -> Any:
        return value.hex

    def is_locked(self, error: Error) -> bool:
        # ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_LOCK_NOWAIT
        return _errno(error) in (1205, 1213, 3572)

    def is_lost(self, error: Error) -> bool:
        # ER_DUP_ENTRY; ER_CHECKREAD: at REPEATABLE READ, the row is newer than the snapshot.
        return _errno(error) in (1062, 1020)

    def insert_wait(self, *, joined: bool) -> float | None:
        return self.shortest_wait

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        change = "SET SESSION innodb_lock_wait_timeout = %s"
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_lock_wait_timeout")
            before = cursor.fetchone()[0]
            cursor.execute(change, [int(seconds)])
            try:
                yield
            finally:
                cursor.execute(change, [before])


class MariaDB(MySQL):
    """MariaDB 10.6 and later, which can wait for nothing."""

    insert_prefix = "SET STATEMENT innodb_lock_wait_timeout=0 FOR "

    def insert_wait(self, *, joined: bool) -> float | None:
        return None


def _busy_milliseconds(raw: Any) -> int:
    (milliseconds,) = raw.execute("PRAGMA busy_timeout").fetchone()
    return int(milliseconds)


class SQLite(Dialect):
    """SQLite 3.35 and later, whose one write lock plays the row lock's part."""

    skips_locked = False
    _CLOCK = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'now'"
    now = _CLOCK + ")"
    later = _CLOCK + ", %({})s)"
    age = "(JULIANDAY('now') - JULIANDAY(claimed_at)) * 86400.0"
    # An expression, or Django makes a datetime of it and forgets whether it ended in zeros.
    moment = "({} || '')"
    beginning = ""
    table_bytes = (
        "SELECT SUM(pgsize) FROM dbstat"
        " WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = %(table)s)"
    )

    def duration(self, value: timedelta) -> Any:
        return f"{value.total_seconds():+.3f} seconds"

    def uuid(self, value: uuid.UUID) -> Any:
        return value.hex

    def is_locked(self, error: Error) -> bool:
        # SQLITE_BUSY and SQLITE_LOCKED, with their extended codes (https://sqlite.org/rescode.html)
        return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in (5, 6)

    def is_lost(self, error: Error) -> bool:
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
        with connection.wrap_database_errors:
            before = _busy_milliseconds(raw)
            raw.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        try:
            yield
        finally:
            raw.execute(f"PRAGMA busy_timeout = {before}")


DIALECTS: dict[str, type[Dialect]] = {
    "postgresql": PostgreSQL,
    "mariadb": MariaDB,
    "mysql": MySQL,
    "sqlite": SQLite,
}


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """What ``connection`` speaks; standard SQL where records are not supported."""
    return DIALECTS.get(getattr(connection, "display_name", "").lower(), Dialect)()
