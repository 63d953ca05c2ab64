"""What the clean-up of a large table costs the requests beside it.

``python -m benchmarks.cleanup`` fills a PostgreSQL with 1,000,000 records, of which 500,000 have
expired, sends fresh orders through gunicorn at a steady 100 a second, and meanwhile deletes what
has expired with ``manage.py cleanup_idempotency``. Exits 1 if a request was lost.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.races import Caller, percentiles
from tests.live import gunicorn
from tests.servers import DATABASE_VARIABLE, PostgreSQL

CALLERS = 16
BODY_BYTES = 500
# Those that answer were made after those that do not, as in life.
FILL = f"""
INSERT INTO django_idempotency_idempotencyrecord (id, scope, key, fingerprint, status, token,
    attempts, atomic, method, path, claimed_at, lease_expires_at, response_status,
    response_headers, response_codec, response_body, error, created_at, completed_at, expires_at)
SELECT gen_random_uuid(), 'user:' || number %% 1000, md5(number::text),
    sha256(number::text::bytea), 'completed', gen_random_uuid(), 1, true, 'POST', '/orders/',
    made, made + interval '1 minute', 201, '[["Content-Type", "application/json"]]', '',
    convert_to(repeat('cake ', {BODY_BYTES // 5}), 'UTF8'), '', made, made, made + interval '1 day'
FROM generate_series(1, %(rows)s) AS number,
    LATERAL (SELECT now() - interval '1 day'
        + (number - %(expired)s) * interval '1 day' / %(rows)s AS made) AS times
"""


@dataclass
class Load:
    """Orders with fresh keys at a steady rate, each at its time whatever became of the others."""

    address: str
    rate: int
    seconds: list[float] = field(default_factory=list)
    lost: int = 0

    def run(self, goes_on: Callable[[], bool]) -> "Load":
        """Send until told to stop."""
        with ThreadPoolExecutor(CALLERS) as pool:
            began = time.perf_counter()
            for first in range(CALLERS):
                pool.submit(self._call, began + first / self.rate, goes_on)
        return self

    def _call(self, due: float, goes_on: Callable[[], bool]) -> None:
        caller = Caller(self.address)
        while goes_on():
            time.sleep(max(0.0, due - time.perf_counter()))
            status = self._order(caller)
            # From when it was due: a server that stands still must not lower the rate.
            self.seconds.append(time.perf_counter() - due)
            self.lost += status != 201
            due += CALLERS / self.rate

    def _order(self, caller: Caller) -> int:
        try:
            return caller.post("/exempt/", uuid.uuid4().hex)[0]
        except OSError:
            return 0


def fill(rows: int, expired: int) -> None:
    """As a database that has run for days finds it."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(FILL, {"rows": rows, "expired": expired})
        cursor.execute("VACUUM ANALYZE django_idempotency_idempotencyrecord")
        cursor.execute("CHECKPOINT")


def clean(arguments: Sequence[str]) -> tuple[int, float]:
    """How many records the command deleted, and in how many seconds, its start included."""
    command = [sys.executable, "-m", "django", "cleanup_idempotency", "--format", "json"]
    began = time.perf_counter()
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["deleted"], time.perf_counter() - began


def alone(address: str, rate: int, seconds: float) -> Load:
    """So long, and nothing beside it."""
    end = time.monotonic() + seconds
    return Load(address, rate).run(lambda: time.monotonic() < end)


def loads(address: str, options: argparse.Namespace) -> tuple[Load, Load, int, float]:
    """Without the clean-up and beside it; what it deleted, in how many seconds."""
    without = alone(address, options.rate, options.seconds)
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(Load(address, options.rate).run, lambda: not ended.is_set())
        deleted, took = clean(options.arguments)
        ended.set()
    return without, beside.result(), deleted, took


def report(without: Load, beside: Load, deleted: int, took: float) -> None:
    """The figures."""
    print(f"cleaned up: {deleted} records in {took:.1f} s, {deleted / took:,.0f} a second")
    for name, load in (("without", without), ("beside it", beside)):
        line = f"{name:10} {len(load.seconds):5} requests, {load.lost} lost, ms "
        print(line + percentiles(load.seconds))
    at99 = [sorted(load.seconds)[int(len(load.seconds) * 0.99)] for load in (without, beside)]
    print(f"p99: {at99[1] / at99[0]:.2f} x")


def measure(options: argparse.Namespace) -> int:
    """All of it; how many requests were lost, or had no effect."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from tests.app.models import Order

    created = setup_databases(verbosity=0, interactive=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            version = " ".join(str(cursor.fetchone()[0]).split()[:2])
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {version}, {machine}, gunicorn 2 x 8")
        fill(options.rows, options.expired)
        print(f"{options.rows:,} records, {options.expired:,} expired; {options.rate} orders/s")
        with tempfile.TemporaryDirectory() as folder, gunicorn(Path(folder), workers=2) as address:
            alone(address, options.rate, 5)
            before = Order.objects.count()
            without, beside, deleted, took = loads(address, options)
        report(without, beside, deleted, took)
        orders = Order.objects.count() - before
        print(f"effects: {orders} of {len(without.seconds) + len(beside.seconds)}")
    finally:
        connection.close()
        teardown_databases(created, verbosity=0)
    return without.lost + beside.lost


def main(arguments: Sequence[str]) -> int:
    """Parse, start the database, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleanup", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--expired", type=int, default=500_000)
    parser.add_argument("--rate", type=int, default=100, help="orders a second")
    parser.add_argument("--seconds", type=float, default=20, help="of orders without a clean-up")
    parser.add_argument("arguments", nargs="*", help="for the command, after --")
    options = parser.parse_args(arguments)
    with PostgreSQL() as server, tempfile.TemporaryDirectory() as folder:
        os.environ[DATABASE_VARIABLE] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["EFFECTS_LOG"] = str(Path(folder, "effects.log"))
        import django

        django.setup()
        return int(measure(options) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
