"""The only SQL of the package: each statement of the protocol in each database's own words.

Texts are built once per alias, because compiling a query costs more than running it, and because
``ON CONFLICT`` after ``set_config`` is no ORM. :mod:`.store` runs them.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from .dialects import Dialect
from .models import IdempotencyCount, IdempotencyRecord, Status

_GUARD = "id = %(id)s AND token = %(holder)s AND status = %(held)s"
_BEGUN = "error = 'begun'"
_RUNNING = f"'{Status.IN_PROGRESS.value}'"
#: The columns that every claim writes.
_TERMS = ("token", "fingerprint", "attempts", "atomic", "method", "path")
_OWN = ("scope", "key")
_IDENTITY = ("id", *_OWN)


class _Words:
    """What every statement about the records is made of."""

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        self._dialect = dialect
        self._quote = connection.ops.quote_name
        self.table = self._quote(IdempotencyRecord._meta.db_table)

    def _update_free(self, changes: str, condition: str) -> str:
        return self._dialect.update_free.format(
            table=self.table, changes=changes, condition=condition
        )

    def _delete_free(self, condition: str) -> str:
        return self._dialect.delete_free.format(table=self.table, condition=condition)

    def _value(self, column: str) -> str:
        return f"%({column})s" + self._dialect.casts.get(column, "")


class Texts(_Words):
    """The statements of the protocol for one alias.

    Those of an owner whose lock vouches for him meet no lock, and end in ``mark`` where the
    database has one; everybody else's skip a locked row: its owner lives, or somebody was faster.
    """

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        super().__init__(connection, dialect)
        self.mark = f" AND {_BEGUN}" if dialect.marks else ""
        self.insert = self._insert(dialect.insert_from)
        self.insert_unflushed = self._insert(dialect.insert_from_unflushed)
        own = {"table": self.table, "mark": _BEGUN, "guard": _GUARD}
        self.heartbeat = dialect.heartbeat.format(**own)
        self.heartbeat_nowait = dialect.heartbeat_nowait.format(**own)
        self.read = (
            f"SELECT fingerprint, status, token, attempts, atomic, {dialect.age},"
            f" lease_expires_at <= {dialect.now}, expires_at <= {dialect.now}, {dialect.touched},"
            f" response_status, response_headers, response_body, response_codec FROM {self.table}"
            " WHERE id = %(id)s"
        )
        self.complete = self._complete() + f" WHERE {_GUARD}"
        self.release = (
            f"UPDATE {self.table} SET status = %(status)s, error = '', attempts = attempts - 1"
            f" WHERE {_GUARD}"
        )
        self.release_late = self._update_free("status = %(status)s, error = %(error)s", _GUARD)
        self.take = self._take()

    def _times(self) -> dict[str, str]:
        """What a claim makes of the clock."""
        d = self._dialect
        return {
            "claimed_at": d.now,
            "lease_expires_at": d.later.format("lease"),
            "expires_at": d.later.format("life"),
        }

    def _insert(self, source: str) -> str:
        d = self._dialect
        values = {name: self._value(name) for name in (*_IDENTITY, *_TERMS)}
        values |= {"status": _RUNNING, "created_at": d.now, **self._times()}
        values |= dict.fromkeys(("error", "response_codec"), "''")
        return (
            f"{d.insert_prefix}INSERT INTO {self.table} ({', '.join(map(self._quote, values))})"
            f" SELECT {', '.join(values.values())} {source} {d.on_conflict}"
        )

    def _take(self) -> str:
        d = self._dialect
        # Scope and key, too: of an erased record they are gone.
        values = {self._quote(name): self._value(name) for name in (*_OWN, *_TERMS)}
        values |= {"status": _RUNNING, **self._times()}
        values |= dict.fromkeys(("error", "response_codec"), "''")
        values["created_at"] = f"CASE WHEN %(anew)s THEN {d.now} ELSE created_at END"
        answer = ("response_status", "response_headers", "response_body", "completed_at")
        values |= dict.fromkeys(answer, "NULL")
        return self._update_free(
            ", ".join(f"{name} = {value}" for name, value in values.items()),
            f"{_GUARD} AND (status <> {_RUNNING} OR atomic OR lease_expires_at <= {d.now})",
        )

    def _complete(self) -> str:
        d = self._dialect
        kept = d.later.format("retention")
        # An unchanged expires_at, which is indexed, keeps PostgreSQL's update heap-only.
        return (
            f"UPDATE {self.table} SET status = %(status)s, error = '', completed_at = {d.now},"
            f" response_status = %(response_status)s, response_headers ="
            f" {self._value('response_headers')}, response_body = %(response_body)s,"
            f" response_codec = %(response_codec)s,"
            f" expires_at = CASE WHEN expires_at < {kept} THEN {kept} ELSE expires_at END"
        )


class UpkeepTexts(_Words):
    """The statements of people and clean-ups for one alias; they touch nothing that is live."""

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        super().__init__(connection, dialect)
        over = f"expires_at <= {dialect.now} AND status <> {_RUNNING}"
        self.expire = (
            f"UPDATE {self.table} SET expires_at = {dialect.now} WHERE id = %(id)s"
            f" AND status <> {_RUNNING} AND expires_at > {dialect.now}"
        )
        self.free = self._update_free(
            "status = %(status)s, error = %(error)s",
            f"{_GUARD} AND (atomic OR lease_expires_at <= {dialect.now})",
        )
        self.delete = self._delete_free(f"id = %(id)s AND {over}")
        self.moment = f"SELECT {dialect.moment.format(dialect.later.format('age'))}"
        self.edge = self._edge("expires_at", dialect.moment, "expires_at <= %(until)s")
        window = "expires_at > %(low)s AND expires_at <= %(high)s"
        self.purge = self._delete_free(f"{window} AND {over}")
        self.abandoned = (
            f"SELECT COUNT(*) FROM {self.table} WHERE {window} AND status = {_RUNNING}"
            f" AND lease_expires_at <= {dialect.now}"
        )
        self.purge_counts = (
            f"DELETE FROM {self._quote(IdempotencyCount._meta.db_table)}"
            f" WHERE minute <= {dialect.later.format('age')}"
        )
        mine = f"scope = %(scope)s AND status <> {_RUNNING}"
        self.scope_edge = self._edge("id", "{}", mine)
        window_of_ids = f"{mine} AND id > %(low)s AND id <= %(high)s"
        self.erase = self._update_free(self._erased(), window_of_ids)
        self.forget = self._delete_free(window_of_ids)

    def _edge(self, column: str, spelling: str, condition: str) -> str:
        """Where a window ends that begins after ``low`` and skips rows before its last."""
        # Without a name of its own it would bear the column's on PostgreSQL, and be sorted by.
        return (
            f"SELECT {spelling.format(column)} AS edge FROM {self.table} WHERE {column} > %(low)s"
            f" AND {condition} ORDER BY {column} LIMIT 1 OFFSET %(skip)s"
        )

    def _erased(self) -> str:
        """Nothing is left but an id, a status and times."""
        empty = dict.fromkeys((*_OWN, "method", "path", "error", "response_codec"), "''")
        values = {self._quote(name): value for name, value in empty.items()}
        values["fingerprint"] = self._value("fingerprint")
        values["response_headers"] = (
            f"CASE WHEN status = '{Status.COMPLETED.value}'"
            f" THEN {self._value('response_headers')} ELSE NULL END"
        )
        values["response_body"] = "NULL"
        return ", ".join(f"{name} = {value}" for name, value in values.items())
