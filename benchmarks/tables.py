"""Fills a table with records, copies of one, as a database has them that ran for days.

They come in the order of their expiry, a day's worth in all, and their ids are as random as real
ones. On PostgreSQL they are the real ones: of :func:`owner` and :func:`key`, which a request with
the same body may repeat.
"""

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import md5
from typing import Any

#: Of one statement.
STEP = 500_000
CUSTOMERS = 5000


def owner(number: int) -> int:
    """The customer of a copy."""
    return number % CUSTOMERS + 1


def key(number: int) -> str:
    """The key of a copy."""
    return str(uuid.UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest()))


@dataclass(frozen=True, slots=True)
class Words:
    """How a database counts from ``first`` to ``last``, and what it makes of each ``number``."""

    numbers: str
    expires_at: str
    values: dict[str, str] = field(default_factory=dict)


# The version's bits and the variant's, which MariaDB insists on, too.
_POSTGRESQL_ID = (
    "encode(set_byte(set_byte(digest, 6, get_byte(digest, 6) & 15 | 80),"
    " 8, get_byte(digest, 8) & 63 | 128), 'hex')::uuid"
)
WORDS = {
    "postgresql": Words(
        "generate_series({first}, {last}) AS number"
        f", LATERAL (SELECT 'user:' || number % {CUSTOMERS} + 1 AS own_scope,"
        " md5(number::text)::uuid::text AS own_key) AS own"
        ", LATERAL (SELECT substr(sha256(int4send(octet_length(own_scope))"
        " || convert_to(own_scope || own_key, 'UTF8')), 1, 16) AS digest) AS digests",
        "now() + SECONDS * interval '1 second'",
        {"id": _POSTGRESQL_ID, "scope": "own_scope", "key": "own_key"},
    ),
    "mysql": Words(
        "(SELECT seq AS number FROM seq_{first}_to_{last}) AS numbers",
        "UTC_TIMESTAMP(6) + INTERVAL SECONDS SECOND",
        {"id": "INSERT(INSERT(MD5(number), 13, 1, '5'), 17, 1, '8')", "key": "MD5(number)"},
    ),
    "sqlite": Words(
        "(WITH RECURSIVE counted (number) AS (SELECT {first} UNION ALL SELECT number + 1"
        " FROM counted WHERE number < {last}) SELECT number FROM counted) AS numbers",
        "STRFTIME('%Y-%m-%d %H:%M:%f000', 'now', SECONDS || ' seconds')",
        {"id": "LOWER(HEX(RANDOMBLOB(16)))", "key": "LOWER(HEX(RANDOMBLOB(16)))"},
    ),
}


def fill(alias: str, original: uuid.UUID, rows: int, expired: int) -> None:
    """Copy a record so often, and let the database settle."""
    from django.db import connections

    connection = connections[alias]
    for first in range(1, rows + 1, STEP):
        last = min(first + STEP - 1, rows)
        text = _copy(connection, original, f"(number * 1.0 - {expired}) * 86400 / {rows}")
        with connection.cursor() as cursor:
            cursor.execute(text.format(first=first, last=last))
    settle(alias)


def _copy(connection: Any, original: uuid.UUID, seconds: str) -> str:
    """Its expiry is in so many seconds."""
    from django_idempotency.models import IdempotencyRecord

    words, quote = WORDS[connection.vendor], connection.ops.quote_name
    columns = [field.column for field in IdempotencyRecord._meta.fields]
    values = {name: f"original.{quote(name)}" for name in columns} | words.values
    values["expires_at"] = words.expires_at.replace("SECONDS", f"({seconds})")
    table = quote(IdempotencyRecord._meta.db_table)
    return (
        f"INSERT INTO {table} ({', '.join(map(quote, values))}) SELECT {', '.join(values.values())}"
        f" FROM {table} AS original, {words.numbers} WHERE original.id = '{original.hex}'"
    )


def settle(alias: str) -> None:
    """Let the database do at once what it would do in time."""
    from django.db import connections

    from django_idempotency.models import IdempotencyRecord

    connection = connections[alias]
    table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
    texts = {
        "postgresql": [f"VACUUM ANALYZE {table}", "CHECKPOINT"],
        "mysql": [f"ANALYZE TABLE {table}"],
        "sqlite": ["ANALYZE"],
    }
    for text in texts[connection.vendor]:
        with connection.cursor() as cursor:
            cursor.execute(text)


def make_original(alias: str) -> uuid.UUID:
    """A completed record whose answer is an order's; its id."""
    from django.utils import timezone

    from django_idempotency.models import IdempotencyRecord, Status

    now = timezone.now()
    record = IdempotencyRecord.objects.using(alias).create(
        id=uuid.uuid5(uuid.NAMESPACE_OID, "original"),
        scope="user:0",
        key="original",
        fingerprint=bytes(32),
        status=Status.COMPLETED,
        token=uuid.uuid4(),
        attempts=1,
        atomic=True,
        method="POST",
        path="/orders/",
        claimed_at=now,
        lease_expires_at=now + timedelta(minutes=1),
        response_status=201,
        response_headers=[["Content-Type", "application/json"]],
        response_body=b"cake " * 100,
        created_at=now,
        completed_at=now,
        expires_at=now + timedelta(days=9),
    )
    return record.pk
