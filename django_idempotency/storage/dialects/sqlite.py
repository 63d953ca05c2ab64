"""SQLite: its one write lock takes the place of the row locks."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from .standard import Dialect


class SQLite(Dialect):
    """SQLite 3.35 and later, through Python's own module."""

    skips_locked = False
    _CLOCK = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'now'"
    now = _CLOCK + ")"
    later = _CLOCK + ", %({})s)"
    since = "(JULIANDAY('now') - JULIANDAY({})) * 86400.0"
    # An expression: of a column Django would make a datetime, which does not tell whether the text
    # ended in zeros.
    moment = "({} || '')"
    beginning = ""
    read_lock_wait = "PRAGMA busy_timeout"
    set_lock_wait = "PRAGMA busy_timeout = {}"
    table_bytes = (
        "SELECT SUM(pgsize) FROM dbstat"
        " WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = %(table)s)"
    )

    def duration(self, value: timedelta) -> Any:
        return f"{value.total_seconds():+.3f} seconds"

    def is_locked(self, error: Error) -> bool:
        # SQLITE_BUSY and SQLITE_LOCKED, with their extended codes (https://sqlite.org/rescode.html)
        return getattr(error.__cause__, "sqlite_errorcode", 0) & 0xFF in (5, 6)

    def is_lost(self, error: Error) -> bool:
        # SQLITE_CONSTRAINT_PRIMARYKEY
        return getattr(error.__cause__, "sqlite_errorcode", 0) == 1555

    def insert_wait(self, *, joined: bool) -> float | None:
        # In slices: after each the record tells whether the lock is that of the same key's owner.
        return None if joined else 0.02

    def patience(self, connection: BaseDatabaseWrapper) -> float:
        connection.ensure_connection()
        (milliseconds,) = connection.connection.execute(self.read_lock_wait).fetchone()
        return float(milliseconds) / 1000

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        connection.ensure_connection()
        raw = connection.connection
        with connection.wrap_database_errors:
            (before,) = raw.execute(self.read_lock_wait).fetchone()
            raw.execute(self.set_lock_wait.format(int(seconds * 1000)))
        try:
            yield
        finally:
            raw.execute(self.set_lock_wait.format(before))
