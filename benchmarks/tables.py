"""Fills a table with records, copies of one, as a database has them that ran for days.

They come in the order of their expiry, those of a day, and their ids are as random as real ones.
On PostgreSQL they are the ids of :func:`key`, which a request with the same body may repeat.
"""

import uuid
from hashlib import md5
from typing import Any

#: Of one statement.
STEP = 500_000
#: Of the customer that every request comes from.
SCOPE = "user:1"


def key(number: int) -> str:
    """The key of a copy."""
    return str(uuid.UUID(md5(str(number).encode(), usedforsecurity=False).hexdigest()))


# The hash of scope and key, with the bits of a UUID's version and variant, as the package makes it.
_POSTGRESQL_ID = (
    "encode(set_byte(set_byte(digest, 6, get_byte(digest, 6) & 15 | 80),"
    " 8, get_byte(digest, 8) & 63 | 128), 'hex')::uuid"
)
#: Rows with a ``number`` from ``{first}`` to ``{last}``.
NUMBERS = {
    "postgresql": "generate_series({first}, {last}) AS number"
    ", LATERAL (SELECT md5(number::text)::uuid::text AS own_key) AS keys"
    f", LATERAL (SELECT substr(sha256(int4send({len(SCOPE)})"
    f" || convert_to('{SCOPE}' || own_key, 'UTF8')), 1, 16) AS digest) AS digests",
    "mysql": "(SELECT seq AS number FROM seq_{first}_to_{last}) AS numbers",
    "sqlite": "(WITH RECURSIVE counted (number) AS (SELECT {first} UNION ALL SELECT number + 1"
    " FROM counted WHERE number < {last}) SELECT number FROM counted) AS numbers",
}
#: What each copy has of its own.
VALUES = {
    "postgresql": {
        "id": _POSTGRESQL_ID,
        "key": "own_key",
        "expires_at": "now() + {seconds} * interval '1 second'",
    },
    "mysql": {
        # MariaDB insists on the bits of a UUID, too.
        "id": "INSERT(INSERT(MD5(number), 13, 1, '5'), 17, 1, '8')",
        "key": "MD5(number)",
        "expires_at": "UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND",
    },
    "sqlite": {
        "id": "LOWER(HEX(RANDOMBLOB(16)))",
        "key": "LOWER(HEX(RANDOMBLOB(16)))",
        "expires_at": "STRFTIME('%Y-%m-%d %H:%M:%f000', 'now', {seconds} || ' seconds')",
    },
}


def fill(alias: str, rows: int, expired: int) -> None:
    """Copy the only record there is so often, and let the database settle."""
    from django.db import connections

    connection = connections[alias]
    text = _copies(connection)
    seconds = f"((number * 1.0 - {expired}) * 86400 / {rows})"
    for first in range(1, rows + 1, STEP):
        last = min(first + STEP - 1, rows)
        with connection.cursor() as cursor:
            cursor.execute(text.format(first=first, last=last, seconds=seconds))
    settle(alias)


def _copies(connection: Any) -> str:
    """A statement that copies the first record; the copies expire in ``{seconds}``."""
    from django_idempotency.models import IdempotencyRecord

    quote, vendor = connection.ops.quote_name, connection.vendor
    original = IdempotencyRecord.objects.using(connection.alias).get()
    columns = [field.column for field in original._meta.fields]
    values = {name: f"original.{quote(name)}" for name in columns} | VALUES[vendor]
    table = quote(original._meta.db_table)
    return (
        f"INSERT INTO {table} ({', '.join(map(quote, values))}) SELECT {', '.join(values.values())}"
        f" FROM {table} AS original, {NUMBERS[vendor]} WHERE original.id = '{original.pk.hex}'"
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
