"""PostgreSQL: several statements in one message, and advisory locks that can be probed."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, ClassVar
from weakref import WeakSet

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import conf
from .standard import Dialect

# The number of executions after which psycopg prepares a statement by itself. The package prepares
# none of the project's statements, unless the project has set a number.
_NEVER = 1 << 62

#: The connections of psycopg that have no pooler behind them, as the server has told.
_direct: WeakSet[Any] = WeakSet()


class PostgreSQL(Dialect):
    """PostgreSQL 14 and later, through psycopg."""

    reads_first = False
    # The grace costs time only if the owner died before it took its row lock. On other databases it
    # costs time whenever an owner died soon after its claim.
    grace = 0.25
    # now() would be when the transaction began, which may be long ago.
    now = "STATEMENT_TIMESTAMP()"
    later = "STATEMENT_TIMESTAMP() + %({})s::interval"
    since = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - {})::float8"
    # xmax is 0 until a transaction locks the row, whose number it keeps after that has ended. A
    # takeover locks the row before it writes: its number is then both xmax and xmin.
    touched = "{table}.xmax::text NOT IN ('0', {table}.xmin::text)"
    casts: ClassVar[dict[str, str]] = {
        "id": "::uuid",
        "token": "::uuid",
        "fingerprint": "::bytea",
        "attempts": "::integer",
        "atomic": "::boolean",
        "response_headers": "::jsonb",
        "response_body": "::bytea",
        "owner": "::uuid",
        "attempt": "::integer",
        "input_digest": "::bytea",
        "output": "::bytea",
    }
    update_free = (
        "UPDATE {table} SET {changes} WHERE id IN"
        " (SELECT id FROM {table} WHERE {condition} FOR NO KEY UPDATE SKIP LOCKED)"
    )
    # ARRAY runs the subquery once. IN may become a join that runs it again for each row, and gets
    # other rows each time: more than the limit. A locked row keeps its place (ctid).
    delete_free = (
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY"
        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))"
        " AND {condition}"
    )
    delete_parts = (
        "DELETE FROM {parts} WHERE record_id = ANY(ARRAY"
        "(SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED))"
    )
    # If a crash of the server loses a claim, the transaction of its view is lost, too.
    unflushed = "SET LOCAL synchronous_commit = off"
    update_nowait = (
        "UPDATE {table} SET {changes} WHERE id IN"
        " (SELECT id FROM {table} WHERE {condition} FOR NO KEY UPDATE NOWAIT)"
    )
    # The row lock fences. Other processes probe and wait for the advisory lock of the same
    # transaction instead, because a waiter for a row lock leaves its number in xmax.
    heartbeat = (
        "SELECT pg_advisory_xact_lock(%(lock)s) FROM {table} WHERE {condition} FOR NO KEY UPDATE"
    )
    heartbeat_nowait = heartbeat + " NOWAIT"
    # A histogram of 0 buckets is an error (2201G) that no other statement of the package raises.
    fence = (
        "WITH settled AS ({statement} RETURNING 1)"
        " SELECT WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer) FROM settled"
    )
    # is_aborted() tells the same, and a mark would cost a second version of the row.
    marks = False
    watch_text = "SELECT pg_advisory_xact_lock_shared({lock})"
    probe = "SELECT pg_try_advisory_xact_lock_shared(%(lock)s)"
    # The lock's number is the first half of the token.
    probing = (
        "pg_try_advisory_xact_lock_shared("
        "('x' || TRANSLATE(LEFT(token::text, 18), '-', ''))::bit(64)::bigint)"
    )
    # A text contains its offset. Without USE_TZ, Django would cut that off, and one hour of each
    # year would be ambiguous.
    moment = "({})::text"
    beginning = "-infinity"
    table_bytes = "SELECT pg_total_relation_size(quote_ident(%(table)s)::regclass)"
    # -1 rows and no shares until the table has been analysed for the first time.
    estimate = (
        "SELECT c.reltuples, s.most_common_vals::text::text[], s.most_common_freqs"
        " FROM pg_class c LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::text"
        " AND s.tablename = c.relname AND s.attname = 'status'"
        " WHERE c.oid = quote_ident(%(table)s)::regclass"
    )
    insert = Dialect.insert + " ON CONFLICT DO NOTHING"
    # Three plain statements cost the planner half as much as the single one with CTEs.
    insert_and_read = (
        insert + "; SELECT CASE WHEN token = %(token)s THEN 1 ELSE 0 END, {columns}"
        " FROM {table} WHERE id = %(id)s"
    )
    # A pooler changes servers, and so gives its clients a number that is none of theirs.
    server = "pg_backend_pid()"
    # ON CONFLICT waits for a transaction that updates or deletes the row, for ever if its client is
    # frozen. 20 ms is a hundred times what an ordinary commit takes.
    hurried = "SET LOCAL lock_timeout = 20"
    settings = "set_config('lock_timeout', '20', true)"
    settings_unflushed = settings + ", set_config('synchronous_commit', 'off', true)"
    insert_or_read = (
        "WITH claimed AS (INSERT INTO {table} ({names}) SELECT {values}"
        " FROM (SELECT {settings}) AS settings ON CONFLICT DO NOTHING RETURNING 1)"
        " SELECT claims, {columns} FROM (SELECT COUNT(*) AS claims FROM claimed) AS made"
        " LEFT JOIN {table} ON id = %(id)s"
    )
    # It also reads the time before, to which the setting is restored.
    set_lock_wait = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
    set_isolation = "SET TRANSACTION ISOLATION LEVEL {}"

    def is_locked(self, error: Error) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "55P03"

    def insert_wait(self, *, joined: bool) -> float | None:
        # In the caller's transaction ``hurried`` would outlast the statement.
        return 0.02 if joined else None

    def is_lost(self, error: Error) -> bool:
        # 23505: unique_violation. 40001: at REPEATABLE READ and above, the row is newer than the
        # snapshot.
        return getattr(error.__cause__, "sqlstate", None) in ("23505", "40001")

    def is_fenced(self, error: Error) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "2201G"

    def prepares(self, connection: BaseDatabaseWrapper) -> bool:
        options = connection.settings_dict["OPTIONS"]
        by_itself = options.get("prepare_threshold") is not None
        return _prepares(connection) or (by_itself and bool(options.get("server_side_binding")))

    def learn(self, connection: BaseDatabaseWrapper, server: Any) -> None:
        raw: Any = connection.connection
        # A project that disables server-side cursors has a pooler whose every transaction may meet
        # another server.
        changes = connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        if server == raw.info.backend_pid and not changes:
            _direct.add(raw)

    def cursor(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[Any]:
        if not _prepares(connection):
            return connection.cursor()
        connection.ensure_connection()
        raw: Any = connection.connection
        if raw.prepare_threshold is None:
            raw.prepare_threshold = _NEVER
        # psycopg prepares what the server binds; Django's own cursors bind in the client.
        return _cursor(connection, _preparing(_psycopg(connection).Cursor))

    def execute_several(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> Any:
        # The server binds the parameters of one statement only.
        with _cursor(connection, _psycopg(connection).ClientCursor) as cursor:
            cursor.execute(text, params)
            while cursor.nextset():
                pass
            return cursor.fetchone() if cursor.description else None

    def commit_with(
        self, connection: BaseDatabaseWrapper, text: str, params: Mapping[str, Any]
    ) -> None:
        if not self.prepares(connection):
            self.execute_several(connection, f"{text}; COMMIT", params)
            return
        raw: Any = connection.connection
        can = _psycopg(connection).Pipeline.is_supported()
        pipeline = raw.pipeline() if can else nullcontext()
        with self.cursor(connection) as cursor, connection.wrap_database_errors, pipeline:
            cursor.execute(text, params)
            cursor.execute("COMMIT")

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        # libpq's PQTRANS_INERROR: the view caught an error that Django does not know of.
        return connection.connection is not None and (
            int(connection.connection.pgconn.transaction_status) == 3
        )

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute(self.set_lock_wait, [f"{max(1, int(seconds * 1000))}ms"])
            before = cursor.fetchone()[0]
            yield
            # After an error the rollback of the savepoint or transaction restores the setting.
            cursor.execute(self.set_lock_wait, [before])

    def unchanged(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        # At READ COMMITTED, a late statement locks the newest version of the row before it checks
        # its condition: a young claim would seem touched.
        return self._isolated(connection, "REPEATABLE READ")

    def latest(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        return self._isolated(connection, "READ COMMITTED")

    @contextmanager
    def _isolated(self, connection: BaseDatabaseWrapper, level: str) -> Iterator[None]:
        with transaction.atomic(using=connection.alias):
            with connection.cursor() as cursor:
                cursor.execute(self.set_isolation.format(level))
            yield

    def watch(self, connection: BaseDatabaseWrapper, text: str, seconds: float) -> None:
        # One message is one transaction: the server ends it, however busy the client is.
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}; {text}")


def _psycopg(connection: BaseDatabaseWrapper) -> Any:
    """The module psycopg, which is not there for other databases."""
    backend: Any = connection
    return backend.Database


@cache
def _preparing(base: Any) -> Any:
    """A cursor that prepares each of its statements: those of the package are few, and recur."""

    class Cursor(base):  # type: ignore[misc]
        def execute(self, query: Any, params: Any = None) -> Any:
            return super().execute(query, params, prepare=True)

    return Cursor


def _cursor(connection: BaseDatabaseWrapper, kind: Any) -> AbstractContextManager[Any]:
    """A cursor of this kind, whatever kind the project uses."""
    connection.ensure_connection()
    raw: Any = connection.connection
    factory, raw.cursor_factory = raw.cursor_factory, kind
    try:
        return connection.cursor()
    finally:
        raw.cursor_factory = factory


def _prepares(connection: BaseDatabaseWrapper) -> bool:
    """Whether the package prepares its statements on this connection."""
    if connection.queries_logged:
        # Django's log knows a statement's text only where the client binds the parameters.
        return False
    wish = conf.prepares()
    return connection.connection in _direct if wish is None else wish
