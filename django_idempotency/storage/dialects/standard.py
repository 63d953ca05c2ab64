"""What may differ from one database to another; the other modules fill it in."""

import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, ClassVar

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper


class Dialect:
    """Standard SQL; the subclasses hold what differs. A part that a database has not is empty."""

    #: Seconds for which a claim is trusted without its owner's row lock: many times what an owner
    #: needs to take that lock, because an eager duplicate must not take the claim in between.
    grace: ClassVar[float] = 0.1
    #: Whether a claim reads before it inserts, because an INSERT would wait for the owner's lock.
    reads_first: ClassVar[bool] = True
    now: ClassVar[str]
    #: Now plus the duration in a parameter, whose name is filled in.
    later: ClassVar[str]
    #: How many seconds ago the time in a column was.
    since: ClassVar[str]
    #: Whether the row has been locked since its claim.
    touched: ClassVar[str] = "FALSE"
    #: What follows a column's parameter whose type the database cannot tell.
    casts: ClassVar[dict[str, str]] = {}
    insert: ClassVar[str] = "INSERT INTO {table} ({names}) VALUES ({values})"
    #: An INSERT that also reads the record which stands in its way: the number of rows it inserted,
    #: then ``columns``. Empty: an INSERT tells no more than whether it inserted.
    insert_and_read: ClassVar[str] = ""
    #: Precedes it in its message, so that it waits for no lock.
    hurried: ClassVar[str] = ""
    #: The last column of that message, for ``learn``.
    server: ClassVar[str] = ""
    #: The same as a single statement, which can be prepared; ``settings`` and
    #: ``settings_unflushed`` do in it what ``hurried`` and ``unflushed`` do in a message.
    insert_or_read: ClassVar[str] = ""
    settings: ClassVar[str] = ""
    settings_unflushed: ClassVar[str] = ""
    #: Changes or deletes the rows of ``condition`` that no other transaction has locked.
    update_free: ClassVar[str] = "UPDATE {table} SET {changes} WHERE {condition}"
    delete_free: ClassVar[str] = (
        "DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {condition} LIMIT %(limit)s)"
        " AND {condition}"
    )
    #: Whether these two skip a locked row instead of waiting for it.
    skips_locked: ClassVar[bool] = True
    #: Deletes the rows of ``parts`` whose record meets ``condition``, and keeps that record locked.
    delete_parts: ClassVar[str] = (
        "DELETE FROM {parts} WHERE record_id IN (SELECT id FROM {table} WHERE {condition})"
    )
    #: Lets the COMMIT of the transaction wait for no flush to the disk.
    unflushed: ClassVar[str] = ""
    update: ClassVar[str] = "UPDATE {table} SET {changes} WHERE {condition}"
    update_nowait: ClassVar[str] = update
    heartbeat: ClassVar[str] = update
    heartbeat_nowait: ClassVar[str] = update
    #: Makes ``statement`` fail unless it changes one row, so that COMMIT can be sent with it.
    #: Empty: the COMMIT is a message of its own.
    fence: ClassVar[str] = ""
    #: Whether the heartbeat marks the row, to show that its transaction was not rolled back.
    marks: ClassVar[bool] = True
    #: Waits until the owner's transaction has ended, beside other waiters; it has no parameters.
    #: Empty: a waiter reads the record again and again.
    watch_text: ClassVar[str] = ""
    #: Whether the owner's transaction has ended, without touching the row. Empty: try to take it.
    probe: ClassVar[str] = ""
    #: The same as an expression that reads the token's column.
    probing: ClassVar[str] = "NULL"
    #: Read and set for how long a statement waits for a lock. Empty: setting also reads.
    read_lock_wait: ClassVar[str] = ""
    set_lock_wait: ClassVar[str] = ""
    #: The shortest time, in seconds, for which a statement can wait for a lock.
    shortest_wait: ClassVar[float] = 0.001
    #: How a time is read that becomes a parameter later, and a time before all others.
    moment: ClassVar[str] = "{}"
    beginning: ClassVar[str]
    #: The size of ``table`` with its indexes.
    table_bytes: ClassVar[str] = ""
    #: The planner's estimate of how many rows ``table`` has, and of the share of each status.
    #: Empty: they can only be counted.
    estimate: ClassVar[str] = ""

    def duration(self, value: timedelta) -> Any:
        """``value`` as ``later`` takes it."""
        return value

    def uuid(self, value: uuid.UUID) -> str:
        """``value`` as a parameter: as Django stores it, or as text for a database's own type."""
        return value.hex

    def is_locked(self, error: Error) -> bool:
        """Whether nothing but a lock stopped the statement."""
        raise NotImplementedError

    def is_lost(self, error: Error) -> bool:
        """Whether the row was there already, or another transaction has changed it meanwhile."""
        raise NotImplementedError

    def is_fenced(self, error: Error) -> bool:
        """Whether ``fence`` failed because no row was changed, so that nothing is committed."""
        return False

    def prepares(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether single statements are prepared, and so cost less than a message of several."""
        return False

    def cursor(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
        """A cursor for single statements."""
        return connection.cursor()

    def learn(self, connection: BaseDatabaseWrapper, server: Any) -> None:
        """Note what the claim's message tells about the server behind the connection."""

    def execute_several(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> Any:
        """Run several statements as one message, and return the first row of the last, if any."""
        raise NotImplementedError

    def commit_with(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> None:
        """Run the last statement of a transaction, which is fenced, and COMMIT as one message."""
        raise NotImplementedError

    def patience(self, connection: BaseDatabaseWrapper) -> float:
        """For how many seconds an INSERT is tried again if a lock of another key may stop it."""
        return 0.0

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the database will roll the transaction back when it is told to commit."""
        return False

    def insert_wait(self, *, joined: bool) -> float | None:
        """Seconds an INSERT may wait for a lock; None where nothing has to be set for that."""
        return None

    def waiting(
        self, connection: BaseDatabaseWrapper, seconds: float
    ) -> AbstractContextManager[None]:
        """Statements inside wait at most so many seconds for a lock."""
        raise NotImplementedError

    def unchanged(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """A statement inside locks no version of a row that is newer than its snapshot."""
        return nullcontext()

    def latest(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """A statement inside sees what was committed before it, at any isolation level."""
        return nullcontext()

    def watch(self, connection: BaseDatabaseWrapper, text: str, seconds: float) -> None:
        """Run a text made of ``watch_text`` in autocommit, for at most so many seconds."""
        with self.waiting(connection, seconds), connection.cursor() as cursor:
            cursor.execute(text)
