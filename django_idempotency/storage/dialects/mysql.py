"""MySQL and MariaDB: row locks, for which an INSERT of the same key would wait."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .standard import Dialect


def _errno(error: Error) -> int:
    args = getattr(error.__cause__, "args", ())
    return args[0] if args and isinstance(args[0], int) else 0


class MySQL(Dialect):
    """MySQL 8, through mysqlclient or PyMySQL."""

    # NOW() would be in the server's time zone.
    now = "UTC_TIMESTAMP(6)"
    later = "UTC_TIMESTAMP(6) + INTERVAL %({})s MICROSECOND"
    since = "TIMESTAMPDIFF(MICROSECOND, {}, UTC_TIMESTAMP(6)) / 1000000"
    # An UPDATE can neither skip locked rows nor name its own table in a plain subquery. A derived
    # table locks them instead, and STRAIGHT_JOIN makes the server read it first.
    _JOIN = "STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY) ON {table}.id = free.id"
    update_free = (
        "UPDATE (SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED) AS free"
        f" {_JOIN} SET {{changes}}"
    )
    # The condition is repeated outside, where "id" must not be ambiguous.
    delete_free = (
        "DELETE {table} FROM (SELECT id AS free_id FROM {table} WHERE {condition} LIMIT %(limit)s"
        " FOR UPDATE SKIP LOCKED) AS free STRAIGHT_JOIN {table} FORCE INDEX (PRIMARY)"
        " ON {table}.id = free.free_id WHERE {condition}"
    )
    delete_parts = (
        "DELETE {parts} FROM (SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED)"
        " AS owners STRAIGHT_JOIN {parts} ON {parts}.record_id = owners.id"
    )
    update_nowait = (
        "UPDATE (SELECT id FROM {table} WHERE {condition} FOR UPDATE NOWAIT) AS free"
        f" {_JOIN} SET {{changes}}"
    )
    heartbeat_nowait = update_nowait
    watch_text = (
        "SELECT 1 FROM {table} WHERE id = '{id}' AND token = '{owner}'"
        " AND status = 'in_progress' LOCK IN SHARE MODE"
    )
    read_lock_wait = "SELECT @@innodb_lock_wait_timeout"
    set_lock_wait = "SET SESSION innodb_lock_wait_timeout = %s"
    shortest_wait = 1.0
    beginning = "1000-01-01 00:00:00"
    table_bytes = (
        "SELECT data_length + index_length FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name = %(table)s"
    )

    def duration(self, value: timedelta) -> Any:
        return value // timedelta(microseconds=1)

    def is_locked(self, error: Error) -> bool:
        # ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK, ER_LOCK_NOWAIT; and 1180, which MariaDB raises for
        # SKIP LOCKED in a transaction if innodb_lock_wait_timeout is 0.
        return _errno(error) in (1205, 1213, 3572, 1180)

    def is_lost(self, error: Error) -> bool:
        # ER_DUP_ENTRY; ER_CHECKREAD: at REPEATABLE READ, the row is newer than the snapshot.
        return _errno(error) in (1062, 1020)

    def insert_wait(self, *, joined: bool) -> float | None:
        return self.shortest_wait

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute(self.read_lock_wait)
            before = cursor.fetchone()[0]
            cursor.execute(self.set_lock_wait, [int(seconds)])
        raw = connection.connection
        try:
            yield
        finally:
            # The raw cursor, because Django's refuses while a transaction is to be rolled back. A
            # connection that is lost has no setting to restore.
            with suppress(Error), connection.wrap_database_errors, raw.cursor() as cursor:
                cursor.execute(self.set_lock_wait, [before])


class MariaDB(MySQL):
    """MariaDB 10.6 and later, where a single statement can be told not to wait."""

    insert = "SET STATEMENT innodb_lock_wait_timeout=0 FOR " + Dialect.insert

    def insert_wait(self, *, joined: bool) -> float | None:
        return None
