"""What the admin's list costs on a million records, beside a thousand.

``python -m benchmarks.admin --rows 1000000`` starts a PostgreSQL with a table of each size in two
databases, opens the list and its filters, searches and pages through Django, once here, once there,
and prints the medians. Exits 1 if the list takes 300 ms, or three times what it does on the small
table, or more than five queries.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

from tests.support.servers import DATABASE_VARIABLE, PostgreSQL

SMALL, LARGE = "other", "default"
LIST = "/admin/django_idempotency/idempotencyrecord/"
LIMIT_SECONDS, LIMIT_FACTOR, LIMIT_QUERIES = 0.3, 3.0, 5
# Ids are as random as real ones; one row in a hundred is in progress or released, one in two has
# expired. They come in the order of their expiry, as records of one retention do.
LOAD = """
    INSERT INTO django_idempotency_idempotencyrecord (
        id, scope, key, fingerprint, status, token, attempts, atomic, method, path, claimed_at,
        lease_expires_at, response_status, response_headers, response_codec, response_body, error,
        created_at, completed_at, expires_at)
    SELECT
        overlay(md5(n::text) placing '5' from 13 for 1)::uuid, 'user:' || n % 5000, md5(n::text),
        sha256(n::text::bytea), status, gen_random_uuid(), 1, n % 10 > 0, 'POST',
        '/api/orders/' || n % 1000 || '/', began, began + interval '1 minute',
        CASE WHEN status = 'completed' THEN 201 END,
        CASE WHEN status = 'completed' THEN '[["Content-Type", "application/json"]]'::jsonb END, '',
        CASE WHEN status = 'completed' THEN convert_to(repeat(md5(n::text), 10), 'UTF8') END, '',
        began, CASE WHEN status = 'completed' THEN began + interval '50 ms' END,
        began + interval '24 hours'
    FROM generate_series(1, {rows}) AS n,
        LATERAL (SELECT
            now() - interval '48 hours' * (1 - n::float8 / {rows}) AS began,
            CASE n % 200 WHEN 0 THEN 'in_progress' WHEN 1 THEN 'released' ELSE 'completed' END
                AS status) AS made
"""


class Where:
    """The router: which of the two tables is looked at."""

    alias = LARGE

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.alias if model.__name__ == "IdempotencyRecord" else None

    db_for_write = db_for_read


def load(alias: str, rows: int) -> None:
    """Fill the table."""
    from django.db import connections

    with connections[alias].cursor() as cursor:
        cursor.execute(LOAD.format(rows=rows))
        cursor.execute("VACUUM ANALYZE django_idempotency_idempotencyrecord")


def _middle() -> str:
    """A page in the middle of the table, as its links would name it."""
    from django_idempotency.models import IdempotencyRecord

    half = IdempotencyRecord.objects.using(Where.alias).count() // 2
    record = IdempotencyRecord.objects.using(Where.alias).order_by("-expires_at")[half]
    return f"?older_than={record.expires_at.isoformat().replace('+', '%2B')}_{record.pk}"


def pages() -> dict[str, str]:
    """What is opened, by its name."""
    since = datetime.now(UTC) + timedelta(hours=6)
    span = f"expires_from={since:%Y-%m-%dT%H:%M}Z&expires_until={since:%Y-%m-%dT%H:%M}:59Z"
    return {
        "the list": "",
        "a page in its middle": _middle(),
        "filter: completed": "?status__exact=completed",
        "filter: in progress": "?status__exact=in_progress",
        "filter: stale": "?standing=stale",
        "filter: expired": "?standing=expired",
        "filter: a minute of expiry": f"?{span}",
        "search: scope and key": "?q=user:7+nothing",
        "search: key alone, not there": "?q=nothing",
        "search: path, a common one": "?q=/api/orders/",
        "search: path, not there": "?q=/nothing/",
    }


def timed(client: Any, url: str) -> tuple[float, int]:
    """Seconds and queries of one page."""
    from django.db import connections
    from django.test.utils import CaptureQueriesContext

    began = time.perf_counter()
    response = client.get(LIST + url)
    seconds = time.perf_counter() - began
    assert response.status_code == 200, response
    with (
        CaptureQueriesContext(connections["default"]) as here,
        CaptureQueriesContext(connections["other"]) as there,
    ):
        client.get(LIST + url)
    return seconds, len(here) + len(there)


def compare(client: Any, rounds: int) -> dict[str, tuple[float, float, int]]:
    """Medians on the small and on the large table, and the queries, of each page."""
    urls = {}
    for Where.alias in (SMALL, LARGE):
        urls[Where.alias] = pages()
    found = {}
    for name in urls[LARGE]:
        took: dict[str, list[float]] = {SMALL: [], LARGE: []}
        for number in range(rounds + 1):
            for Where.alias in (SMALL, LARGE):
                seconds, queries = timed(client, urls[Where.alias][name])
                # The first one compiles templates and reads from disk.
                took[Where.alias] += [seconds] if number else []
        found[name] = (median(took[SMALL]), median(took[LARGE]), queries)
    return found


def show(found: dict[str, tuple[float, float, int]], small: int, large: int) -> None:
    """The table."""
    print(f"{'median, ms':<30} {small:>9,} {large:>9,}  factor  queries")
    for name, (little, much, queries) in found.items():
        figures = f"{little * 1000:9.1f} {much * 1000:9.1f} {much / little:7.1f} {queries:8}"
        print(f"{name:<30} {figures}")


def measure(small: int, large: int, rounds: int) -> int:
    """All of it; the exit status."""
    from django.contrib.auth.models import User
    from django.db import connection, router
    from django.test import Client
    from django.test.utils import setup_databases, teardown_databases

    created = setup_databases(verbosity=0, interactive=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            version = str(cursor.fetchone()[0])[:15]
        load(SMALL, small)
        load(LARGE, large)
        router.routers = [Where()]
        client = Client()
        client.force_login(User.objects.create_superuser("root"))
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {version}, {machine}, {rounds} rounds")
        found = compare(client, rounds)
        show(found, small, large)
    finally:
        teardown_databases(created, verbosity=0)
    little, much, queries = found["the list"]
    slow = much >= LIMIT_SECONDS or much >= LIMIT_FACTOR * little
    return int(slow or queries > LIMIT_QUERIES)


def main(arguments: Sequence[str]) -> int:
    """Parse, start the database, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.admin", description=__doc__)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    with PostgreSQL() as server:
        os.environ[DATABASE_VARIABLE] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["IDEMPOTENCY_TEST_CONN_MAX_AGE"] = "600"
        import django

        django.setup()
        return measure(options.small, options.rows, options.rounds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
