"""Everything a process asks of its databases, one boundary after the other, and faults at them.

A boundary is a statement (savepoints are some), the beginning of a transaction, its COMMIT or
ROLLBACK, the return to autocommit, or a new connection. Statements are what Django's wrappers see;
they do not see the others, so these are wrapped where Django hands them to the driver.
"""

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NoReturn

from django.db import connection as default
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

# What MariaDB says before the statement it is about.
_PREFIX = re.compile("^SET STATEMENT .*? FOR ")
_AND_COMMIT = "; COMMIT"


def word_of(sql: str) -> str:
    """What kind of statement it is; what brings the COMMIT along is one."""
    if sql.endswith(_AND_COMMIT):
        return "COMMIT"
    return _PREFIX.sub("", sql).split()[0].rstrip(";").upper()


def _is_committed(connection: BaseDatabaseWrapper) -> bool:
    """Whether psycopg has nothing left to send."""
    return connection.vendor == "postgresql" and (
        connection.connection.info.transaction_status == TransactionStatus.IDLE
    )


@dataclass(frozen=True, slots=True)
class Boundary:
    """What was asked, as one word."""

    word: str
    #: Or else only Django and the driver agreed upon it.
    is_sent: bool
    #: Whether it raised without any fault at it.
    failed: bool = False

    @property
    def alias(self) -> str:
        """Whose it was; empty for the default database."""
        return self.word.partition("@")[2]


@dataclass(frozen=True, slots=True)
class Strike:
    """A fault, ``when`` (before, during or after) and at which boundary.

    ``at`` is a number, beginning with 1, or a word, for the first of its kind.
    """

    at: int | str
    when: str
    fault: str


def kill(connection: BaseDatabaseWrapper, result: Any = None) -> NoReturn:
    """``kill -9``."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives this")


def fail(connection: BaseDatabaseWrapper, result: Any = None) -> NoReturn:
    """Raise the error of a server that is gone, as the driver would; the connection lives."""
    with connection.wrap_database_errors:
        # CR_SERVER_LOST of MariaDB and MySQL; the other drivers only have the class.
        raise connection.Database.OperationalError(2013, "injected")


def sever(
    connection: BaseDatabaseWrapper, result: Any = None, direction: int = socket.SHUT_RDWR
) -> None:
    """Cut the network; SQLite, which has none, loses its handle."""
    raw = connection.connection or result
    if connection.vendor == "sqlite":
        _close_handle(raw, result)
        return
    # PyMySQL keeps its socket to itself.
    descriptor = (getattr(raw, "_sock", None) or raw).fileno()
    with socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(direction)


def _close_handle(raw: Any, result: Any) -> None:
    # A statement that is not at its end would keep a closed handle's locks.
    if result is not None and result is not raw:
        result.close()
    raw.rollback()
    raw.close()


def lose(connection: BaseDatabaseWrapper, result: Any = None) -> NoReturn:
    """What was asked for is done, but the reply is lost with the connection."""
    raw = connection.connection or result
    sever(connection, result)
    if connection.vendor != "sqlite":
        # Let the driver notice.
        with connection.wrap_database_errors:
            raw.cursor().execute("SELECT 1")
    fail(connection)


_HARM: dict[str, Callable[[BaseDatabaseWrapper, Any], None]] = {
    "raise": fail,
    "drop": sever,
    "lose": lose,
    "kill": kill,
}
FAULTS = tuple(_HARM)


def _struck(strike: Strike, connection: BaseDatabaseWrapper, go: Callable[[], Any]) -> Any:
    """What ``go()`` returns, if the fault lets it."""
    harm = _HARM[strike.fault]
    if strike.when == "before":
        harm(connection, None)
    if strike.when == "during":
        # The server gets the words and does as told; its reply meets a closed door, or, if it was
        # there already, is the last one.
        sever(connection, direction=socket.SHUT_RD)
    result = go()
    if strike.when != "before":
        harm(connection, result)
    return result


class Boundaries:
    """Those this process crosses, counted from now on, with the faults that await it there."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        self.crossed: list[Boundary] = []
        self.waiting = list(strikes)
        for connection in connections.all():
            connection.execute_wrappers.append(self._statement)
            self._wrap(connection, "get_new_connection", lambda *_: "CONNECT")
            self._wrap(connection, "_commit", lambda: "COMMIT")
            self._wrap(connection, "_rollback", lambda: "ROLLBACK")
            self._wrap(connection, "_set_autocommit", lambda on: "AUTOCOMMIT" if on else "BEGIN")

    def _statement(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        go = partial(execute, sql, params, many, context)
        return self._cross(context["connection"], Boundary(word_of(sql), is_sent=True), go)

    def _wrap(
        self, connection: BaseDatabaseWrapper, method: str, named: Callable[..., str]
    ) -> None:
        original = getattr(connection, method)
        # psycopg's and SQLite's autocommit is a flag; psycopg says BEGIN with the next statement.
        is_sent = method != "_set_autocommit" or connection.vendor == "mysql"

        def crossing(*args: Any) -> Any:
            go = partial(original, *args)
            # Django also commits and rolls back what it has lost already.
            if connection.connection is None and method != "get_new_connection":
                return go()
            if method == "_commit" and _is_committed(connection):
                return go()
            return self._cross(connection, Boundary(named(*args), is_sent), go)

        setattr(connection, method, crossing)

    def _cross(
        self, connection: BaseDatabaseWrapper, boundary: Boundary, go: Callable[[], Any]
    ) -> Any:
        if connection.alias != default.alias:
            boundary = replace(boundary, word=f"{boundary.word}@{connection.alias}")
        self.crossed.append(boundary)
        number = len(self.crossed)
        strike = next((one for one in self.waiting if one.at in (number, boundary.word)), None)
        if strike is not None:
            self.waiting.remove(strike)
            return _struck(strike, connection, go)
        try:
            return go()
        except BaseException:
            self.crossed[number - 1] = replace(boundary, failed=True)
            raise


def _is_told_by(following: Boundary, boundary: Boundary, fault: str) -> bool:
    """Whether a fault after ``boundary`` is the one before ``following``: nothing is in between."""
    if fault == "kill":
        return True
    # SQLite's closed handle takes what a statement has found along, and no other connection can be
    # cut in place of this one.
    cut = fault == "drop" and default.vendor != "sqlite"
    return cut and following.alias == boundary.alias and "CONNECT" not in following.word


def strikes_at(
    number: int, boundary: Boundary, fault: str, following: Boundary | None = None
) -> Iterator[Strike]:
    """Every way in which ``fault`` can come at a boundary, but for those at ``following``."""
    word, _, _ = boundary.word.partition("@")
    told = following is not None and _is_told_by(following, boundary, fault)
    # What is not sent cannot fail, has no reply, and leaves nothing to be met before the next.
    if not boundary.is_sent and (told or fault in ("raise", "lose")):
        return
    # Before there is a connection there is none to drop, and a reply is lost afterwards.
    if fault != "lose" and (word, fault) != ("CONNECT", "drop"):
        yield Strike(number, "before", fault)
    # Django would not know that it is in a transaction; no driver hides that and lives on.
    if boundary.failed or (word, fault) == ("BEGIN", "raise"):
        return
    if fault == "drop" and boundary.is_sent and word != "CONNECT" and default.vendor != "sqlite":
        yield Strike(number, "during", fault)
    if not told:
        yield Strike(number, "after", fault)
