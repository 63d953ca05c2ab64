"""The floor: the protocol's statements for the same request, prepared, by psycopg alone.

No request is parsed, no view called and no response made. What a contestant with this protocol
costs above it is Python.
"""

import hashlib
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from django.db import connection

from benchmarks.sites.caller import Reply, Sent, timed
from benchmarks.sites.orders.request import BODY, PATH
from benchmarks.sites.orders.views import Gate
from benchmarks.sites.prepare import prepare

_TABLE = "django_idempotency_idempotencyrecord"
_MINE = "id = %(id)s AND token = %(token)s AND status = 'in_progress'"
_CLAIM = f"""
    WITH claimed AS (
        INSERT INTO {_TABLE} (
            id, scope, key, token, fingerprint, attempts, atomic, method, path, status, created_at,
            claimed_at, lease_expires_at, expires_at, error, response_codec)
        SELECT
            %(id)s, 'user:1', %(key)s, %(token)s, %(fingerprint)s, 1, true, 'POST', '{PATH}',
            'in_progress', now(), now(), now() + %(lease)s, now() + %(life)s, '', ''
        FROM (SELECT set_config('lock_timeout', '20', true),
                     set_config('synchronous_commit', 'off', true)) AS settings
        ON CONFLICT DO NOTHING RETURNING 1)
    SELECT claims, fingerprint, status, token, attempts, atomic, now() - claimed_at,
        lease_expires_at <= now(), now() - expires_at, {_TABLE}.xmax::text <> '0', response_status,
        CASE WHEN status = 'in_progress' AND token <> %(token)s
            THEN NOT pg_try_advisory_xact_lock_shared(
                ('x' || translate(left(token::text, 18), '-', ''))::bit(64)::bigint) END,
        response_headers::text, response_body, response_codec
    FROM (SELECT count(*) AS claims FROM claimed) AS made LEFT JOIN {_TABLE} ON id = %(id)s
"""
_LOCK = f"""
    SELECT pg_advisory_xact_lock(%(lock)s) FROM {_TABLE} WHERE {_MINE} FOR NO KEY UPDATE NOWAIT
"""
_TRY = "SELECT pg_try_advisory_xact_lock(%(lock)s)"
_READ = f"""
    SELECT fingerprint, status, response_status, response_headers::text, response_body
    FROM {_TABLE} WHERE id = %(id)s
"""
_RECORD = f"""
    INSERT INTO {_TABLE} (
        id, scope, key, token, fingerprint, attempts, atomic, method, path, status, created_at,
        claimed_at, lease_expires_at, expires_at, error, completed_at, response_status,
        response_headers, response_body, response_codec)
    VALUES (
        %(id)s, 'user:1', %(key)s, %(token)s, %(fingerprint)s, 1, true, 'POST', '{PATH}',
        'completed', now(), now(), now() + %(lease)s, now() + %(life)s, '', now(), 201,
        '[["Content-Type", "application/json"]]', %(body)s, '')
"""
_ORDER = """
    INSERT INTO orders_order (nonce, customer, cakes, placed_at)
    VALUES (%(nonce)s, 'Erika Mustermann', 3, now()) RETURNING id
"""
_COMPLETE = f"""
    UPDATE {_TABLE} SET status = 'completed', error = '', completed_at = now(),
        response_status = 201, response_headers = '[["Content-Type", "application/json"]]',
        response_body = %(body)s, response_codec = ''
    WHERE {_MINE}
"""


def _fields(key: str) -> dict[str, Any]:
    """What a request's statements are about."""
    token = uuid.uuid4()
    return {
        "key": key,
        "id": uuid.UUID(key),
        "token": token,
        "lock": int.from_bytes(token.bytes[:8], signed=True),
        "fingerprint": hashlib.sha256(BODY).digest(),
        "lease": timedelta(seconds=60),
        "life": timedelta(days=1),
    }


class Floor:
    """A caller of nothing but the database."""

    def __init__(self) -> None:
        prepare()
        self._own = self._connect()
        self._gate = Gate()
        self._runs = 0
        self._texts: list[str] = []

    def _connect(self) -> psycopg.Connection[Any]:
        parameters = connection.get_connection_params()
        names = ("host", "port", "user", "dbname")
        chosen = {name: parameters[name] for name in names}
        # Each statement is prepared at its first use.
        return psycopg.connect(autocommit=True, **chosen)

    def ask(self, key: str | None) -> Reply:
        return timed(lambda: self._answer(self._own, key))

    def _answer(self, own: psycopg.Connection[Any], key: str | None) -> tuple[int, bytes]:
        return self._bare(own) if key is None else self._protected(own, _fields(key))

    def _execute(
        self, own: psycopg.Connection[Any], text: str, fields: dict[str, Any] | None = None
    ) -> Any:
        self._texts.append(text)
        return own.execute(text, fields, prepare=True)

    def _write(self, own: psycopg.Connection[Any]) -> bytes:
        nonce = uuid.uuid4().hex
        self._execute(own, _ORDER, {"nonce": nonce}).fetchone()
        self._runs += 1
        if self._gate.closed:
            self._gate.hold()
        return b'{"nonce": "%s", "order": %s}' % (nonce.encode(), BODY)

    def _bare(self, own: psycopg.Connection[Any]) -> tuple[int, bytes]:
        self._execute(own, "BEGIN")
        body = self._write(own)
        self._execute(own, "COMMIT")
        return 201, body

    def _protected(self, own: psycopg.Connection[Any], fields: dict[str, Any]) -> tuple[int, bytes]:
        claims, *found = self._execute(own, _CLAIM, fields).fetchone()
        if not claims:
            return self._duplicate(own, found)
        self._execute(own, "BEGIN")
        self._execute(own, _LOCK, fields).fetchone()
        body = self._write(own)
        self._execute(own, _COMPLETE, fields | {"body": body})
        self._execute(own, "COMMIT")
        return 201, body

    def _duplicate(self, own: psycopg.Connection[Any], found: list[Any]) -> tuple[int, bytes]:
        *_, response_status, _, _, body, _ = found
        return (409, b"") if response_status is None else (response_status, body)

    def effects(self) -> tuple[int, int]:
        (rows,) = self._own.execute("SELECT count(*) FROM orders_order").fetchone() or (0,)
        return self._runs, rows

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        self._gate.close()
        thread = threading.Thread(target=self._elsewhere, args=(key,))
        thread.start()
        try:
            self._gate.wait_until_held()
            yield
        finally:
            self._gate.open()
            thread.join()

    def _elsewhere(self, key: str) -> None:
        with self._connect() as own:
            self._answer(own, key)

    def sent(self, key: str | None) -> Sent:
        before = len(self._texts)
        self.ask(key)
        return Sent(self._texts[before:])


class OneCommit(Floor):
    """A lock of the transaction instead of a claim, and the record with the view's writes."""

    def _protected(self, own: psycopg.Connection[Any], fields: dict[str, Any]) -> tuple[int, bytes]:
        found = self._execute(own, _READ, fields).fetchone()
        if found is not None:
            return found[2], found[4]
        # The key's, not the attempt's: nobody can know whose it is.
        key = {"lock": int.from_bytes(fields["id"].bytes[:8], signed=True), "id": fields["id"]}
        self._execute(own, "BEGIN")
        (free,) = self._execute(own, _TRY, key).fetchone()
        found = self._execute(own, _READ, key).fetchone() if free else None
        if not free or found is not None:
            self._execute(own, "ROLLBACK")
            return (409, b"") if found is None else (found[2], found[4])
        body = self._write(own)
        self._execute(own, _RECORD, fields | {"body": body})
        self._execute(own, "COMMIT")
        return 201, body


FLOORS = {"floor": Floor, "floor-one-commit": OneCommit}
