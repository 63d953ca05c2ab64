"""The only SQL of the package: each statement of the protocol in each database's own words.

Texts are built once per alias, because compiling a query costs more than running it, and because
``ON CONFLICT`` after ``set_config`` is no ORM. :mod:`.store` runs them.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from ..models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    StepStatus,
)
from .dialects import Dialect

_RUNNING = f"'{Status.IN_PROGRESS.value}'"
_RELEASED = f"'{Status.RELEASED.value}'"
_HELD = "id = %(id)s AND token = %(holder)s"
#: The claim of a live owner, and a record as it was found.
_GUARD = f"{_HELD} AND status = {_RUNNING}"
_AS_FOUND = f"{_HELD} AND status = %(held)s"
_BEGUN = "error = 'begun'"
_OVER = f"'{StepStatus.COMPLETED.value}', '{StepStatus.FAILED.value}'"
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
        self.steps = self._quote(IdempotencyStep._meta.db_table)
        self.envelopes = self._quote(IdempotencyEnvelope._meta.db_table)

    def _update_free(self, changes: str, condition: str) -> str:
        return self._dialect.update_free.format(
            table=self.table, changes=changes, condition=condition
        )

    def _delete_free(self, condition: str) -> str:
        return self._dialect.delete_free.format(table=self.table, condition=condition)

    def _delete_parts(self, parts: str, condition: str) -> str:
        """Delete what belongs to the records of a condition, and keep those locked."""
        return self._dialect.delete_parts.format(
            table=self.table, parts=parts, condition=f"{condition} AND {self._has(parts)}"
        )

    def _has(self, parts: str) -> str:
        return f"EXISTS (SELECT 1 FROM {parts} WHERE {parts}.record_id = {self.table}.id)"

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
        d, columns = dialect, self._columns("NULL")
        self.insert = self._insert(d.insert)
        self.joined = self._insert(d.insert_and_read, columns=columns)
        # In a transaction of the caller's the lock that is found free would stay locked.
        asking = self._columns(self._is_alive())
        telling = f"{asking}, {d.server}"
        self.claim = f"{d.hurried}; {self._insert(d.insert_and_read, columns=telling)}"
        self.claim_unflushed = f"{d.unflushed}; {self.claim}"
        prepared = {"columns": asking, "settings": d.settings}
        self.prepared = self._insert(d.insert_or_read, **prepared)
        prepared["settings"] = d.settings_unflushed
        self.prepared_unflushed = self._insert(d.insert_or_read, **prepared)
        own = {"table": self.table, "changes": _BEGUN, "condition": _GUARD}
        self.heartbeat = dialect.heartbeat.format(**own)
        self.heartbeat_nowait = dialect.heartbeat_nowait.format(**own)
        self.read = f"SELECT {columns} FROM {self.table} WHERE id = %(id)s"
        self.complete = self._complete() + f" WHERE {_GUARD}"
        self.release = (
            f"UPDATE {self.table} SET status = {_RELEASED}, error = '', attempts = attempts - 1"
            f" WHERE {_GUARD}"
        )
        self.complete_fenced = d.fence.format(statement=self.complete)
        self.release_fenced = d.fence.format(statement=self.release)
        self.release_late = self._update_free(f"status = {_RELEASED}, error = %(error)s", _GUARD)
        self.take = self._take()
        self.forget_steps = f"DELETE FROM {self.steps} WHERE record_id = %(id)s"
        self.forget_envelope = f"DELETE FROM {self.envelopes} WHERE record_id = %(id)s"
        envelope = f"EXISTS(SELECT 1 FROM {self.envelopes} WHERE record_id = %(id)s)"
        self.has_envelope = f"SELECT {envelope}"
        self.is_unfinished = (
            f"SELECT EXISTS(SELECT 1 FROM {self.steps} WHERE record_id = %(id)s) OR {envelope}"
        )

    def _times(self) -> dict[str, str]:
        """What a claim makes of the clock."""
        d = self._dialect
        return {
            "claimed_at": d.now,
            "lease_expires_at": d.later.format("lease"),
            "expires_at": d.later.format("life"),
        }

    def _columns(self, alive: str) -> str:
        d = self._dialect
        return (
            "fingerprint, status, token, attempts, atomic,"
            f" {d.since.format('claimed_at')}, lease_expires_at <= {d.now},"
            f" {d.since.format('expires_at')}, {self._touched()}, {alive},"
            " response_status, response_headers, response_body, response_codec"
        )

    def _touched(self) -> str:
        return self._dialect.touched.format(table=self.table)

    def _is_alive(self) -> str:
        """Of an owner who seems dead, whether he is; of others, nothing."""
        d = self._dialect
        old = f"{d.since.format('claimed_at')} >= {d.grace}"
        return (
            f"CASE WHEN status = {_RUNNING} AND atomic AND token <> {self._value('token')}"
            f" AND ({self._touched()} OR {old}) THEN NOT {d.probing} END"
        )

    def _insert(self, form: str, columns: str = "", settings: str = "") -> str:
        d = self._dialect
        values = {name: self._value(name) for name in (*_IDENTITY, *_TERMS)}
        values |= {"status": _RUNNING, "created_at": d.now, **self._times()}
        values |= dict.fromkeys(("error", "response_codec"), "''")
        return form.format(
            table=self.table,
            names=", ".join(map(self._quote, values)),
            values=", ".join(values.values()),
            columns=columns,
            settings=settings,
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
            f"{_AS_FOUND} AND (status <> {_RUNNING} OR atomic OR lease_expires_at <= {d.now})",
        )

    def _complete(self) -> str:
        d = self._dialect
        kept = d.later.format("retention")
        # An unchanged expires_at, which is indexed, keeps PostgreSQL's update heap-only.
        return (
            f"UPDATE {self.table} SET status = '{Status.COMPLETED.value}', error = '',"
            f" completed_at = {d.now},"
            f" response_status = %(response_status)s, response_headers ="
            f" {self._value('response_headers')}, response_body = %(response_body)s,"
            f" response_codec = %(response_codec)s,"
            f" expires_at = CASE WHEN expires_at < {kept} THEN {kept} ELSE expires_at END"
        )
