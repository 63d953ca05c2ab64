"""PostgreSQL: several statements in one message, and locks that can be looked at."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, ClassVar
from weakref import WeakSet

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import conf
from .standard import Dialect

# psycopg's number of executions before it prepares a statement by itself: the project's are none of
# our business, unless it has said a number.
_NEVER = 1 << 62

#: psycopg's connections behind which there is no pooler, as the server has told.
_direct: WeakSet[Any] = WeakSet()


class PostgreSQL(Dialect):
    """PostgreSQL 14 and later, through psycopg."""

    reads_first = False
    # Only who died before he began costs it; elsewhere everybody who died young does.
    grace = 0.25
    # now() is when the transaction began, which may be long ago.
    now = "STATEMENT_TIMESTAMP()"
    later = "STATEMENT_TIMESTAMP() + %({})s::interval"
    since = "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP() - {})::float8"
    # xmax is 0 until somebody locks the row, and stays after he is gone; a takeover, which locks
    # before it writes, leaves its own number there, which is then xmin too.
    touched = "{table}.xmax::text NOT IN ('0', {table}.xmin::text)"
    casts: ClassVar[dict[str, str]] = {
        "id": "::uuid",
        "token": "::uuid",
        "fingerprint": "::bytea",
        "attempts": "::integer",
        "atomic": "::boolean",
        "response_headers": "::jsonb",
        "response_body": "::bytea",
        "holder": "::uuid",
        "attempt": "::integer",
        "input_digest": "::bytea",
        "output": "::bytea",
    }
    update_free = (
        "UPDATE {table} SET {changes} WHERE id IN"
        " (SELECT id FROM {table} WHERE {condition} FOR NO KEY UPDATE SKIP LOCKED)"
    )
    # An array is made once. IN may become a join that asks again for each row, and each time gets
    # the next ones: more than the limit. A row that is locked stays where it is (ctid).
    delete_free = (
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY"
        "(SELECT ctid FROM {table} WHERE {condition} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))"
        " AND {condition}"
    )
    delete_parts = (
        "DELETE FROM {parts} WHERE record_id = ANY(ARRAY"
        "(SELECT id FROM {table} WHERE {condition} FOR UPDATE SKIP LOCKED))"
    )
    # A claim that a crash of the server loses is a claim whose view's transaction was lost too.
    unflushed = "SET LOCAL synchronous_commit = off"
    update_nowait = (
        "UPDATE {table} SET {changes} WHERE id IN"
        " (SELECT id FROM {table} WHERE {condition} FOR NO KEY UPDATE NOWAIT)"
    )
    # The row lock fences; the advisory lock of the same transaction is what others look at and wait
    # for, because whoever waits for a row lock leaves his number in xmax.
    heartbeat = (
        "SELECT pg_advisory_xact_lock(%(lock)s) FROM {table} WHERE {condition} FOR NO KEY UPDATE"
    )
    heartbeat_nowait = heartbeat + " NOWAIT"
    # No other statement of ours fails so: a histogram needs a bucket.
    fence = (
        "WITH settled AS ({statement} RETURNING 1)"
        " SELECT WIDTH_BUCKET(0, 0, 1, COUNT(*)::integer) FROM settled"
    )
    # is_aborted() tells, and a mark would cost a second version of the row.
    marks = False
    watch_text = "SELECT pg_advisory_xact_lock_shared({lock})"
    probe = "SELECT pg_try_advisory_xact_lock_shared(%(lock)s)"
    # The lock's number is the first half of the token.
    probing = (
        "pg_try_advisory_xact_lock_shared("
        "('x' || TRANSLATE(LEFT(token::text, 18), '-', ''))::bit(64)::bigint)"
    )
    # As text it bears its offset; without USE_TZ, Django would cut that off, and in one hour of the
    # year nobody could tell which was meant.
    moment = "({})::text"
    beginning = "-infinity"
    table_bytes = "SELECT pg_total_relation_size(quote_ident(%(table)s)::regclass)"
    # -1 rows, or no shares, before the table is analysed for the first time.
    estimate = (
        "SELECT c.reltuples, s.most_common_vals::text::text[], s.most_common_freqs"
        " FROM pg_class c LEFT JOIN pg_stats s ON s.schemaname = c.relnamespace::regnamespace::text"
        " AND s.tablename = c.relname AND s.attname = 'status'"
        " WHERE c.oid = quote_ident(%(table)s)::regclass"
    )
    insert = Dialect.insert + " ON CONFLICT DO NOTHING"
    # Three plain statements cost the planner half of what the one with CTEs does.
    insert_and_read = (
        insert + "; SELECT CASE WHEN token = %(token)s THEN 1 ELSE 0 END, {columns}"
        " FROM {table} WHERE id = %(id)s"
    )
    # A pooler cannot give its clients the numbers of servers that it changes: it makes them up.
    server = "pg_backend_pid()"
    # A row that is being updated or deleted makes ON CONFLICT wait, for ever if its writer is
    # frozen; 20 ms is a hundred times what an ordinary commit takes.
    hurried = "SET LOCAL lock_timeout = 20"
    settings = "set_config('lock_timeout', '20', true)"
    settings_unflushed = settings + ", set_config('synchronous_commit', 'off', true)"
    insert_or_read = (
        "WITH claimed AS (INSERT INTO {table} ({names}) SELECT {values}"
        " FROM (SELECT {settings}) AS settings ON CONFLICT DO NOTHING RETURNING 1)"
        " SELECT claims, {columns} FROM (SELECT COUNT(*) AS claims FROM claimed) AS made"
        " LEFT JOIN {table} ON id = %(id)s"
    )

    def is_locked(self, error: Error) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "55P03"

    def insert_wait(self, *, joined: bool) -> float | None:
        # In a transaction of the caller's, set_config would outlast the statement.
        return 0.02 if joined else None

    def is_lost(self, error: Error) -> bool:
        # 40001: at REPEATABLE READ and above, the row came after the snapshot.
        return getattr(error.__cause__, "sqlstate", None) in ("23505", "40001")

    def is_fenced(self, error: Error) -> bool:
        return getattr(error.__cause__, "sqlstate", None) == "2201G"

    def prepares(self, connection: BaseDatabaseWrapper) -> bool:
        options = connection.settings_dict["OPTIONS"]
        by_itself = options.get("prepare_threshold") is not None
        return _prepares(connection) or (by_itself and bool(options.get("server_side_binding")))

    def learn(self, connection: BaseDatabaseWrapper, server: Any) -> None:
        raw: Any = connection.connection
        # Who disables server-side cursors says that each transaction may meet another server.
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
        # libpq's PQTRANS_INERROR: an error was caught, and Django knows nothing of it.
        return connection.connection is not None and (
            int(connection.connection.pgconn.transaction_status) == 3
        )

    @contextmanager
    def waiting(self, connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
        change = "SELECT current_setting('lock_timeout'), set_config('lock_timeout', %s, true)"
        with connection.cursor() as cursor:
            cursor.execute(change, [f"{max(1, int(seconds * 1000))}ms"])
            before = cursor.fetchone()[0]
            yield
            # After an error the savepoint or transaction takes the setting back by itself.
            cursor.execute(change, [before])

    def unchanged(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        # At READ COMMITTED, whoever is late locks the newest version of the row, if only to see
        # that it is not his: a young claim would seem touched. Here that is an error.
        return self._isolated(connection, "REPEATABLE READ")

    def latest(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        return self._isolated(connection, "READ COMMITTED")

    @contextmanager
    def _isolated(self, connection: BaseDatabaseWrapper, level: str) -> Iterator[None]:
        with transaction.atomic(using=connection.alias):
            with connection.cursor() as cursor:
                cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
            yield

    def watch(self, connection: BaseDatabaseWrapper, text: str, seconds: float) -> None:
        # One text is one transaction: it ends in the server, not when the client finds the time.
        with connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = {max(1, int(seconds * 1000))}; {text}")


def _psycopg(connection: BaseDatabaseWrapper) -> Any:
    """The module; other databases do without it."""
    backend: Any = connection
    return backend.Database


@cache
def _preparing(base: Any) -> Any:
    """A cursor that has each of its statements prepared; ours are few, and come again."""

    class Cursor(base):  # type: ignore[misc]
        def execute(self, query: Any, params: Any = None) -> Any:
            return super().execute(query, params, prepare=True)

    return Cursor


def _cursor(connection: BaseDatabaseWrapper, kind: Any) -> AbstractContextManager[Any]:
    """One of psycopg's, whichever the project's are."""
    connection.ensure_connection()
    raw: Any = connection.connection
    factory, raw.cursor_factory = raw.cursor_factory, kind
    try:
        return connection.cursor()
    finally:
        raw.cursor_factory = factory


def _prepares(connection: BaseDatabaseWrapper) -> bool:
    """Whether the package has its statements prepared, as long as this connection lasts."""
    if connection.queries_logged:
        # Django knows the text of what it binds itself.
        return False
    wish = conf.prepares()
    return connection.connection in _direct if wish is None else wish
