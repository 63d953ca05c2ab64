"""How often what happened, for the dashboard: counted in memory, written when requests are over.

:func:`count` adds to a number of this process. After a request has been answered, at most every
:data:`INTERVAL_SECONDS`, the sums become new rows of the minute; whoever reads adds up. Nobody
waits for anybody, and a process that is killed loses what it has not written.
"""

import logging
import os
import threading
import time
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.signals import request_finished
from django.db import Error, connections

from .. import conf
from ..models import IdempotencyCount, UtcNow
from ..storage.dialects import dialect_of

logger = logging.getLogger("django_idempotency")

#: Short enough to watch; and of a hundred processes ten write in a second.
INTERVAL_SECONDS = 10.0
# The view that holds SQLite's one write lock may take long: better luck in ten seconds.
_LOCK_SECONDS = 0.1


class _Minute(UtcNow):
    """The present minute by the database's clock, as each stores a time, whatever its time zone."""

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "DATE_TRUNC('minute', STATEMENT_TIMESTAMP())"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "DATE_FORMAT(UTC_TIMESTAMP(), '%%%%Y-%%%%m-%%%%d %%%%H:%%%%i:00')"
        return self.as_sql(compiler, connection, template=template, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:00', 'NOW')"
        return self.as_sql(compiler, connection, template=template, **context)


class _Tally:
    """What this process has counted and not written, by database and event."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start at nothing; the lock is new because a fork copies one that another thread held."""
        self._lock = threading.Lock()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._due = 0.0
        self.has_failed = False

    def add(self, using: str, counts: dict[str, int]) -> None:
        with self._lock:
            self._counts[using].update(counts)

    def count(self, event: str, using: str) -> None:
        with self._lock:
            self._counts[using][event] += 1

    def is_due(self) -> bool:
        """Whether it is time to write; of several threads one is told so."""
        now = time.monotonic()
        with self._lock:
            if not self._counts or now < self._due:
                return False
            self._due = now + INTERVAL_SECONDS
            return True

    def aliases(self) -> list[str]:
        with self._lock:
            return list(self._counts)

    def take(self, using: str) -> dict[str, int]:
        with self._lock:
            return self._counts.pop(using, Counter())


_tally = _Tally()
if hasattr(os, "register_at_fork"):
    # What the parent has counted, the parent writes.
    os.register_at_fork(after_in_child=_tally.forget)


def count(event: str, using: str) -> None:
    """One more of these has happened to a record of this database; costs no I/O."""
    _tally.count(event, using)


def flush() -> None:
    """What this process has counted is written, or lost; what cannot be written yet is kept."""
    for using in _tally.aliases():
        if not conf.keeps_statistics():
            _tally.take(using)
        # A row of somebody else's transaction would wait for its COMMIT, or end with it.
        elif not connections[using].in_atomic_block:
            _write(using, _tally.take(using))


def _write(using: str, counts: dict[str, int]) -> None:
    try:
        with _impatient(using):
            _insert(using, counts)
    except Error as error:
        if dialect_of(connections[using]).is_locked(error):
            _tally.add(using, counts)
        else:
            _log_failure()
    finally:
        # Django has done so for this request already, and would leave the connection open.
        connections[using].close_if_unusable_or_obsolete()


def _insert(using: str, counts: dict[str, int]) -> None:
    minute: Any = _Minute()
    IdempotencyCount.objects.using(using).bulk_create(
        IdempotencyCount(minute=minute, event=event, count=number)
        for event, number in counts.items()
    )


def _impatient(using: str) -> AbstractContextManager[None]:
    """Only on SQLite does an INSERT wait for anybody."""
    dialect = dialect_of(connections[using])
    if dialect.skips_locked:
        return nullcontext()
    return dialect.waiting(connections[using], _LOCK_SECONDS)


def _log_failure() -> None:
    """Once at a level that people see: a table that is missing is missing every ten seconds."""
    level = logging.DEBUG if _tally.has_failed else logging.WARNING
    _tally.has_failed = True
    logger.log(level, "idempotency counts could not be written, and are lost", exc_info=True)


def _after_request(sender: type | None, **kwargs: Any) -> None:
    # Django's test client, which is no handler of a server, sends None: the queries that a test
    # counts are those of its view.
    if sender is not None and _tally.is_due():
        flush()


def connect() -> None:
    """Write after requests from now on."""
    request_finished.connect(_after_request, dispatch_uid="django_idempotency.statistics")
