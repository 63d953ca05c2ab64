"""What the database drivers themselves send, in the words of :mod:`.boundaries`.

Each driver lets one listen in its own way. What only Django and the driver agree upon (psycopg's
and SQLite's autocommit) is not sent, and so not heard.
"""

import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from .boundaries import word_of

Ear = Callable[[], Iterable[str]]

_PSYCOPG_SENDS = re.compile(r'\tF\t\d+\t(?:Query\t "|Parse\t "\w*" ")(.+)"')


def _sqlite(raw: Any) -> Ear:
    heard: list[str] = []
    raw.set_trace_callback(heard.append)
    return lambda: heard


def _postgresql(raw: Any) -> Ear:
    file = tempfile.TemporaryFile("w+")  # noqa: SIM115 - libpq writes into it
    raw.pgconn.trace(file.fileno())

    def heard() -> Iterable[str]:
        raw.pgconn.untrace()
        file.seek(0)
        return _PSYCOPG_SENDS.findall(file.read())

    return heard


def _mysql(raw: Any) -> Ear:
    heard: list[str] = []
    send = raw._execute_command

    def noting(command: int, sql: Any) -> Any:
        heard.append(sql.decode() if isinstance(sql, bytes) else sql)
        return send(command, sql)

    raw._execute_command = noting
    return lambda: heard


_EARS: dict[str, Callable[[Any], Ear]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
}


def _words(statements: Iterable[str]) -> list[str]:
    begun = (re.sub("^SET AUTOCOMMIT = 0", "BEGIN", statement) for statement in statements)
    # A PRAGMA, which says how long to wait, touches no data.
    unheard = re.compile("SET AUTOCOMMIT = 1|PRAGMA")
    return [word_of(statement) for statement in begun if not unheard.match(statement)]


def listen(connection: BaseDatabaseWrapper) -> Callable[[], list[str]]:
    """A function that returns what was sent until then."""
    connection.ensure_connection()
    heard = _EARS[connection.vendor](connection.connection)
    return lambda: _words(heard())
