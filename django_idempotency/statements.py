"""The only SQL of the package: each statement of the protocol in each database's own words.

Texts are built once per alias, because compiling a query costs more than running it, and because
``ON CONFLICT`` after ``set_config`` is no ORM. :mod:`.store` runs them.
"""

from django.db.backends.base.base import BaseDatabaseWrapper

from .dialects import Dialect
from .models import IdempotencyRecord

_GUARD = "id = %s AND token = %s AND status = %s"
_OWN = (
    "token = %s, status = %s, fingerprint = %s, attempts = %s, atomic = %s, method = %s,"
    " path = %s, claimed_at = {now}, lease_expires_at = {later}, expires_at = {later}, error = '',"
    " created_at = CASE WHEN %s THEN {now} ELSE created_at END, response_status = NULL,"
    " response_headers = NULL, response_body = NULL, completed_at = NULL"
)
_COLUMNS = (
    "id", "scope", "key", "fingerprint", "status", "token", "attempts", "atomic", "method", "path",
)  # fmt: skip


class Texts:
    """The statements of one alias."""

    def __init__(self, connection: BaseDatabaseWrapper, dialect: Dialect) -> None:
        self._dialect = dialect
        self._quote = connection.ops.quote_name
        self._table = self._quote(IdempotencyRecord._meta.db_table)
        self.insert = self._insert(dialect.insert_from)
        self.insert_unflushed = self._insert(dialect.insert_from_unflushed)
        self.heartbeat = dialect.heartbeat.format(table=self._table)
        self.heartbeat_nowait = self.heartbeat + dialect.nowait
        self.read = (
            f"SELECT fingerprint, status, token, attempts, atomic, {dialect.age},"
            f" lease_expires_at <= {dialect.now}, expires_at <= {dialect.now}, {dialect.touched},"
            f" response_status, response_headers, response_body FROM {self._table} WHERE id = %s"
        )
        # An owner's own statements cannot meet a lock, his lock being the one. Everybody else's
        # skip a locked row: its owner lives, or somebody was faster.
        self.complete = self._complete() + f" WHERE {_GUARD}"
        self.release = (
            f"UPDATE {self._table} SET status = %s, error = '', attempts = attempts - 1"
            f" WHERE {_GUARD}"
        )
        self.release_late = f"UPDATE {self._table} SET status = %s, error = %s" + self._if_free()
        self.take = (
            f"UPDATE {self._table} SET "
            + _OWN.format(now=dialect.now, later=dialect.later)
            + self._if_free(f"(status <> %s OR atomic OR lease_expires_at <= {dialect.now})")
        )
        self.expire = (
            f"UPDATE {self._table} SET expires_at = {dialect.now}"
            f" WHERE id = %s AND status <> %s AND expires_at > {dialect.now}"
        )
        self.purge = self._purge()

    def _if_free(self, condition: str = "1 = 1") -> str:
        return (
            f" WHERE id IN (SELECT id FROM {self._table} WHERE {_GUARD} AND {condition}"
            f" {self._dialect.skip_locked})"
        )

    def _insert(self, source: str) -> str:
        d = self._dialect
        names = ", ".join(map(self._quote, _COLUMNS))
        values = ", ".join("%s" + d.casts.get(name, "") for name in _COLUMNS)
        return (
            f"INSERT INTO {self._table} ({names}, error, created_at, claimed_at,"
            f" lease_expires_at, expires_at)"
            f" SELECT {values}, '', {d.now}, {d.now}, {d.later}, {d.later} {source} {d.on_conflict}"
        )

    def _complete(self) -> str:
        d = self._dialect
        headers = "%s" + d.casts.get("response_headers", "")
        # An unchanged expires_at, which is indexed, keeps PostgreSQL's update heap-only.
        return (
            f"UPDATE {self._table} SET status = %s, completed_at = {d.now}, response_status = %s,"
            f" response_headers = {headers}, response_body = %s, expires_at ="
            f" CASE WHEN expires_at < {d.later} THEN {d.later} ELSE expires_at END"
        )

    def _purge(self) -> str:
        expired = f"expires_at <= {self._dialect.now} AND status <> %s"
        return (
            f"DELETE FROM {self._table} WHERE id IN (SELECT id FROM {self._table} WHERE {expired}"
            f" LIMIT %s {self._dialect.for_delete}) AND {expired}"
        )
