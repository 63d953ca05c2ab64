"""What a database may say differently: its clock, its locks, its errors."""

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, ClassVar

from django.db import Error
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
    #: How many seconds ago the time in a column was.
    since: ClassVar[str]
    touched: ClassVar[str] = "FALSE"
    casts: ClassVar[dict[str, str]] = {}
    insert: ClassVar[str] = "INSERT INTO {table} ({names}) VALUES ({values})"
    #: The same, and what stands in its way: how many rows were made, then ``columns``. It goes
    #: after ``hurried`` and, where it can, ``unflushed``. None: an INSERT tells only whether it was
    #: made.
    insert_and_read: ClassVar[str] = ""
    #: Lets what follows, as one message with it, wait for no lock.
    hurried: ClassVar[str] = ""
    #: What the claim's message reads at its end, for ``learn``.
    server: ClassVar[str] = ""
    #: The same as one statement, which can be prepared, with ``settings`` for the other two.
    insert_or_read: ClassVar[str] = ""
    settings: ClassVar[str] = ""
    settings_unflushed: ClassVar[str] = ""
    #: How a statement takes the rows of ``condition`` that nobody has locked.
    update_free: ClassVar[str] = "UPDATE {table} SET {changes} WHERE {condition}"
    delete_free: ClassVar[str] = (
        "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT %(limit)s)"
        " AND {condition}"
    )
    #: Whether these skip a locked row, instead of waiting for it.
    skips_locked: ClassVar[bool] = True
    #: How the rows of ``parts`` go whose record is one of those; the records stay locked.
    delete_parts: ClassVar[str] = (
        "DELETE FROM {parts} WHERE record_id IN (SELECT id FROM {table} WHERE {condition})"
    )
    #: Lets the COMMIT wait for no flush. None: the database cannot.
    unflushed: ClassVar[str] = ""
    update: ClassVar[str] = "UPDATE {table} SET {changes} WHERE {condition}"
    update_nowait: ClassVar[str] = update
    heartbeat: ClassVar[str] = update
    heartbeat_nowait: ClassVar[str] = update
    #: A statement that changes one row or fails, so that COMMIT can be sent with it. None: they are
    #: two messages.
    fence: ClassVar[str] = ""
    #: Whether the heartbeat leaves a mark, which is gone when the database rolled back unasked.
    marks: ClassVar[bool] = True
    #: Waits until the owner's transaction has ended, and hinders nobody who waits, too; has no
    #: parameters. None: look again.
    watch_text: ClassVar[str] = ""
    #: Whether the owner's transaction has ended, without touching the row. None: just take it.
    probe: ClassVar[str] = ""
    #: The same as an expression that reads the token's column.
    probing: ClassVar[str] = "NULL"
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

    def uuid(self, value: uuid.UUID) -> str:
        """``value`` as a parameter: what Django stores, or text for a type of the database's."""
        return value.hex

    def is_locked(self, error: Error) -> bool:
        """Whether a lock, and nothing else, stopped the statement."""
        raise NotImplementedError

    def is_lost(self, error: Error) -> bool:
        """Whether the row is there already, or was changed by somebody else meanwhile."""
        raise NotImplementedError

    def is_fenced(self, error: Error) -> bool:
        """Whether ``fence`` met no row, and so did not commit."""
        return False

    def prepares(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether single statements are prepared, and so are cheaper than messages of several."""
        return False

    def cursor(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
        """A cursor for single statements."""
        return connection.cursor()

    def learn(self, connection: BaseDatabaseWrapper, server: Any) -> None:
        """What a claim's message has told about who serves the connection."""

    def execute_several(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> Any:
        """Run several statements as one message; the first row of the last, if it has any."""
        raise NotImplementedError

    def commit_with(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> None:
        """Run the last statement of a transaction, which has a ``fence``, with its COMMIT."""
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
