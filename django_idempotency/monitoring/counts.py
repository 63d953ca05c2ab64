"""Counts of events for the dashboard: kept in memory, and written after requests.

:func:`count` adds to a number in this process. After a request has been answered, at most every
:data:`INTERVAL_SECONDS`, the numbers become new rows for the minute, which readers add up. So
processes never wait for each other's rows, and a killed process loses what it has not written.
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
from django.db.models import DateTimeField, Func

from .. import conf
from ..models import IdempotencyCount
from ..storage.dialects import dialect_of

logger = logging.getLogger("django_idempotency")

#: Short enough to watch the dashboard; a hundred processes then write ten times a second.
INTERVAL_SECONDS = 10.0
# A view may hold SQLite's only write lock for long; the next try is ten seconds later.
_LOCK_SECONDS = 0.1


class _Minute(Func):
    """The current minute by the database's clock, in the form in which it stores times."""

    output_field = DateTimeField()
    _templates = {
        "postgresql": "DATE_TRUNC('minute', STATEMENT_TIMESTAMP())",
        "mysql": "DATE_FORMAT(UTC_TIMESTAMP(), '%%%%Y-%%%%m-%%%%d %%%%H:%%%%i:00')",
        "sqlite": "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:00', 'NOW')",
    }

    def as_sql(self, compiler: Any, connection: Any, **context: Any) -> Any:  # type: ignore[override]
        template = self._templates[connection.vendor]
        return super().as_sql(compiler, connection, template=template, **context)


class _Tally:
    """The counts that this process has not written yet, by database and event."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start at zero, with a new lock: a fork may have copied a lock that a thread held."""
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
        """Whether it is time to write; True for only one of several threads."""
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
    # The parent's counts are written by the parent.
    os.register_at_fork(after_in_child=_tally.forget)


def count(event: str, using: str) -> None:
    """Add one to an event's count for a database; needs no I/O."""
    _tally.count(event, using)


def flush() -> None:
    """Write this process's counts; they are kept if the table is locked, lost on other errors."""
    for using in _tally.aliases():
        if not conf.keeps_statistics():
            _tally.take(using)
        # Inside a transaction the rows would be visible only after its COMMIT, or never.
        elif not connections[using].in_atomic_block:
            _write(using, _tally.take(using))


def _write(using: str, counts: dict[str, int]) -> None:
    try:
        with _limited_wait(using):
            _insert(using, counts)
    except Error as error:
        if dialect_of(connections[using]).is_locked(error):
            _tally.add(using, counts)
        else:
            _log_failure()
    finally:
        # Django has already closed this request's connections, so it will not close this one.
        connections[using].close_if_unusable_or_obsolete()


def _insert(using: str, counts: dict[str, int]) -> None:
    minute: Any = _Minute()
    IdempotencyCount.objects.using(using).bulk_create(
        IdempotencyCount(minute=minute, event=event, count=number)
        for event, number in counts.items()
    )


def _limited_wait(using: str) -> AbstractContextManager[None]:
    """Limits how long an INSERT waits for other writers; only SQLite's INSERTs do."""
    connection = connections[using]
    dialect = dialect_of(connection)
    return nullcontext() if dialect.skips_locked else dialect.waiting(connection, _LOCK_SECONDS)


def _log_failure() -> None:
    """Log the first failure as a warning and the others, which come every ten seconds, as debug."""
    level = logging.DEBUG if _tally.has_failed else logging.WARNING
    _tally.has_failed = True
    logger.log(level, "idempotency counts could not be written, and are lost", exc_info=True)


def _after_request(sender: type | None, **kwargs: Any) -> None:
    # Django's test client sends None. Tests that count queries should count those of the view only.
    if sender is not None and _tally.is_due():
        flush()


def connect() -> None:
    """Write the counts after requests from now on."""
    request_finished.connect(_after_request, dispatch_uid="django_idempotency.statistics")
