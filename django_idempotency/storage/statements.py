"""The statements of the protocol, in each database's own words; :mod:`.records` runs them.

The ORM cannot express them: an UPDATE that skips locked rows, several statements as one message, a
COMMIT that is fenced. Besides, compiling a query costs more than running it. :mod:`.steps` and
:mod:`.upkeep` build theirs from the same :class:`Words`; ``tests/unit/storage/golden`` shows all of
them as they are sent.
"""

from collections.abc import Callable

from ..models import (
    IdempotencyCount,
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
)
from .dialects import Dialect

RUNNING = f"'{Status.IN_PROGRESS.value}'"
RELEASED = f"'{Status.RELEASED.value}'"
_OWNED = "id = %(id)s AND token = %(owner)s"
#: The claim of a live owner, and a record as it was found.
GUARD = f"{_OWNED} AND status = {RUNNING}"
_AS_FOUND = f"{_OWNED} AND status = %(found_status)s"
_BEGUN = "error = 'begun'"
#: What identifies a record to its caller, and the columns that every claim writes.
CALLER = ("scope", "key")
_CLAIM = ("token", "fingerprint", "attempts", "atomic", "method", "path")
_MODELS = (IdempotencyRecord, IdempotencyStep, IdempotencyEnvelope, IdempotencyCount)


def _message(*statements: str) -> str:
    """One message of several statements, without those that the database does not have."""
    return "; ".join(filter(None, statements))


class Words:
    """What the statements about the records are made of.

    It holds text only: it lives as long as the process, and ``quote`` may belong to a connection.
    """

    def __init__(self, dialect: Dialect, quote: Callable[[str], str]) -> None:
        self._dialect = dialect
        self._quoted = {f.attname: quote(f.attname) for m in _MODELS for f in m._meta.fields}
        tables = (quote(model._meta.db_table) for model in _MODELS)
        self._table, self._steps, self._envelopes, self._counts = tables

    def _update_free(self, changes: str, condition: str) -> str:
        parts = {"table": self._table, "changes": changes, "condition": condition}
        return self._dialect.update_free.format(**parts)

    def _delete_free(self, condition: str) -> str:
        return self._dialect.delete_free.format(table=self._table, condition=condition)

    def _delete_parts(self, parts: str, condition: str) -> str:
        """Delete what belongs to the records of a condition, and keep those locked."""
        return self._dialect.delete_parts.format(
            table=self._table, parts=parts, condition=f"{condition} AND {self._has(parts)}"
        )

    def _has(self, parts: str) -> str:
        return f"EXISTS (SELECT 1 FROM {parts} WHERE {parts}.record_id = {self._table}.id)"

    def _param(self, column: str) -> str:
        """The parameter of a column, cast where the database cannot tell its type."""
        return f"%({column})s" + self._dialect.casts.get(column, "")


class Texts(Words):
    """The statements of the protocol; those that a database does not have are empty.

    The statements of an owner that holds its row meet no lock; they end in a check of the mark that
    the heartbeat left, where the dialect has one. All others skip a locked row: its owner is alive,
    or another process was faster.
    """

    def __init__(self, dialect: Dialect, quote: Callable[[str], str]) -> None:
        super().__init__(dialect, quote)
        d, columns = dialect, self._columns("NULL")
        self.insert = "" if d.insert_and_read else self._insert(d.insert)
        self.claim_joined = self._insert(d.insert_and_read, columns=columns)
        # In a transaction of the caller's the lock that is found free would stay locked.
        asking = self._columns(self._is_alive())
        claim = self._insert(d.insert_and_read, columns=f"{asking}, {d.server}")
        self.claim = _message(d.hurried, claim)
        self.claim_unflushed = _message(d.unflushed, self.claim)
        prepared = {"columns": asking, "settings": d.settings}
        self.claim_prepared = self._insert(d.insert_or_read, **prepared)
        prepared["settings"] = d.settings_unflushed
        self.claim_prepared_unflushed = self._insert(d.insert_or_read, **prepared)
        own = {"table": self._table, "changes": _BEGUN, "condition": GUARD}
        self.heartbeat = d.heartbeat.format(**own)
        self.heartbeat_nowait = d.heartbeat_nowait.format(**own)
        self.read = f"SELECT {columns} FROM {self._table} WHERE id = %(id)s"
        # MySQL rolls back a deadlocked transaction by itself, and the view may catch that error:
        # with its earlier writes the mark is gone.
        mark = f" AND {_BEGUN}" if d.marks else ""
        self.complete = self._complete() + f" WHERE {GUARD}"
        self.complete_marked = self.complete + mark
        self.complete_fenced = d.fence.format(statement=self.complete)
        self.release = (
            f"UPDATE {self._table} SET status = {RELEASED}, error = '', attempts = attempts - 1"
            f" WHERE {GUARD}"
        )
        self.release_marked = self.release + mark
        self.release_fenced = d.fence.format(statement=self.release)
        self.release_late = self._update_free(f"status = {RELEASED}, error = %(error)s", GUARD)
        self.take = self._take()
        self.delete_steps = f"DELETE FROM {self._steps} WHERE record_id = %(id)s"
        self.delete_envelope = f"DELETE FROM {self._envelopes} WHERE record_id = %(id)s"
        envelope = f"EXISTS(SELECT 1 FROM {self._envelopes} WHERE record_id = %(id)s)"
        self.has_envelope = f"SELECT {envelope}"
        self.is_unfinished = (
            f"SELECT EXISTS(SELECT 1 FROM {self._steps} WHERE record_id = %(id)s) OR {envelope}"
        )
        #: It has no parameters: its values are filled in when it is run.
        values = {"id": "{id}", "owner": "{owner}", "lock": "{lock}"}
        self.watch = d.watch_text.format(table=self._table, **values)

    def _times(self) -> dict[str, str]:
        """What a claim takes from the database's clock."""
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
        return self._dialect.touched.format(table=self._table)

    def _is_alive(self) -> str:
        """Whether an owner that seems dead holds its lock; NULL for every other record."""
        d = self._dialect
        old = f"{d.since.format('claimed_at')} >= {d.grace}"
        return (
            f"CASE WHEN status = {RUNNING} AND atomic AND token <> {self._param('token')}"
            f" AND ({self._touched()} OR {old}) THEN NOT {d.probing} END"
        )

    def _insert(self, form: str, columns: str = "", settings: str = "") -> str:
        d = self._dialect
        values = {name: self._param(name) for name in ("id", *CALLER, *_CLAIM)}
        values |= {"status": RUNNING, "created_at": d.now, **self._times()}
        values |= dict.fromkeys(("error", "response_codec"), "''")
        return form.format(
            table=self._table,
            names=", ".join(self._quoted[name] for name in values),
            values=", ".join(values.values()),
            columns=columns,
            settings=settings,
        )

    def _take(self) -> str:
        d = self._dialect
        # Scope and key, too: an erased record has lost them.
        values = {self._quoted[name]: self._param(name) for name in (*CALLER, *_CLAIM)}
        values |= {"status": RUNNING, **self._times()}
        values |= dict.fromkeys(("error", "response_codec"), "''")
        values["created_at"] = f"CASE WHEN %(anew)s THEN {d.now} ELSE created_at END"
        answer = ("response_status", "response_headers", "response_body", "completed_at")
        values |= dict.fromkeys(answer, "NULL")
        return self._update_free(
            ", ".join(f"{name} = {value}" for name, value in values.items()),
            f"{_AS_FOUND} AND (status <> {RUNNING} OR atomic OR lease_expires_at <= {d.now})",
        )

    def _complete(self) -> str:
        d = self._dialect
        kept = d.later.format("retention")
        # An unchanged expires_at, which is indexed, keeps PostgreSQL's update heap-only.
        return (
            f"UPDATE {self._table} SET status = '{Status.COMPLETED.value}', error = '',"
            f" completed_at = {d.now},"
            f" response_status = %(response_status)s, response_headers ="
            f" {self._param('response_headers')}, response_body = %(response_body)s,"
            f" response_codec = %(response_codec)s,"
            f" expires_at = CASE WHEN expires_at < {kept} THEN {kept} ELSE expires_at END"
        )
