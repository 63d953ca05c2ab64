"""How fast the clean-up of a large table is, and what it costs the requests beside it.

``python -m benchmarks.cleanup`` fills each database with 1,000,000 records, of which 500,000 have
expired, and cleans up. Then on a PostgreSQL it sends fresh orders through gunicorn at a steady 100
a second, and meanwhile deletes what has expired with ``manage.py cleanup_idempotency``. Exits 1 if
a request was lost.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.apart import apart
from benchmarks.figures import Spread, circumstances, save, spread
from benchmarks.races import Caller, percentiles
from benchmarks.tables import fill, make_original
from tests.support.live import gunicorn
from tests.support.servers import DATABASE_VARIABLE, MariaDB, PostgreSQL, ServerUnavailableError

CALLERS = 16
#: PostgreSQL twice: with its own statement, and with the one for any database.
PORTABLE = "postgresql, portable"
DATABASES = ("postgresql", PORTABLE, "mariadb", "sqlite")
# The defaults are for small tables: of one that does not fit, each page is read and written anew.
POSTGRESQL = {"shared_buffers": "1GB"}
MARIADB = {"innodb-buffer-pool-size": "2G", "innodb-log-file-size": "512M"}
#: Of the command, to find nothing.
NOTHING = ("--older-than", "9999d")


@dataclass
class Load:
    """Orders with fresh keys at a steady rate, each at its time whatever became of the others."""

    address: str
    rate: int
    path: str = "/exempt/"
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
            return caller.post(self.path, uuid.uuid4().hex)[0]
        except OSError:
            return 0


def clean(arguments: Sequence[str]) -> tuple[int, float]:
    """How many records the command deleted, and in how many seconds, its start included."""
    command = [sys.executable, "-m", "django", "cleanup_idempotency", "--format", "json"]
    began = time.perf_counter()
    done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)["deleted"], time.perf_counter() - began


def alone(address: str, rate: int, seconds: float, path: str = Load.path) -> Load:
    """So long, and nothing beside it."""
    end = time.monotonic() + seconds
    return Load(address, rate, path).run(lambda: time.monotonic() < end)


def loads(address: str, options: argparse.Namespace) -> tuple[Load, Load, int, float]:
    """Without the clean-up and beside it; what it deleted, in how many seconds."""
    without = alone(address, options.rate, options.seconds)
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(Load(address, options.rate).run, lambda: not ended.is_set())
        deleted, took = clean(options.arguments)
        ended.set()
    return without, beside.result(), deleted, took


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rows went in how many seconds; the spread is that of the batches' rates."""

    deleted: int
    seconds: float
    rate: Spread

    def __str__(self) -> str:
        low, high = self.rate.low, self.rate.high
        spread = f"batches at {low:,.0f}-{high:,.0f}"
        return f"{self.deleted} in {self.seconds:.1f} s, {self.rate.median:,.0f} a second, {spread}"


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Its address while it runs; raises ServerUnavailableError."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir=os.environ.get("IDEMPOTENCY_TEST_DATA")) as folder:
            yield f"sqlite://{folder}"
    else:
        with MariaDB(MARIADB) if kind == "mariadb" else PostgreSQL(options=POSTGRESQL) as server:
            yield server.url


def make_portable() -> None:
    """Let this process delete by standard SQL."""
    from django.db import connection

    from django_idempotency.storage.dialects import Dialect, dialect_of

    type(dialect_of(connection)).delete_free = Dialect.delete_free


def sweep(kind: str, rows: int, expired: int) -> Pace:
    """Fill the database of this process, and clean up, with nobody beside."""
    from benchmarks.sites.prepare import prepare
    from django_idempotency.maintenance.cleanup import Sweep, clean_up
    from django_idempotency.storage.upkeep import Upkeep

    prepare()
    fill("default", make_original("default"), rows, expired)
    if kind == PORTABLE:
        make_portable()
    store, times, sizes = Upkeep("default"), [time.perf_counter()], list[int]()

    def progress(deleted: int) -> None:
        times.append(time.perf_counter())
        sizes.append(deleted)

    deleted = clean_up(store, Sweep(), progress).deleted
    took = time.perf_counter() - times[0]
    rates = [size / (b - a) for size, (a, b) in zip(sizes, pairwise(times), strict=True)]
    batches = spread(rates)
    return Pace(deleted, took, Spread(deleted / took, batches.low, batches.high))


def sweeps(options: argparse.Namespace) -> dict[str, Pace]:
    """The pace on each database that is to be had."""
    found = {}
    for kind in options.database or DATABASES:
        try:
            with database(kind) as address:
                found[kind] = apart(sweep, address, kind, options.rows, options.expired)
        except ServerUnavailableError as error:
            print(f"NOT MEASURED: {kind}: {error}")
        else:
            print(f"{kind:<20} {found[kind]}", flush=True)
    return found


def report(without: Load, beside: Load, deleted: int, took: float, start: float) -> dict[str, Any]:
    """Print the figures beside orders, and return them."""
    alone = f"{deleted / (took - start):,.0f} without its start of {start:.1f} s"
    print(f"cleaned up: {deleted} records in {took:.1f} s, {deleted / took:,.0f} a second, {alone}")
    for name, load in (("without", without), ("beside it", beside)):
        line = f"{name:10} {len(load.seconds):5} requests, {load.lost} lost, ms "
        print(line + percentiles(load.seconds))
    at99 = [sorted(load.seconds)[int(len(load.seconds) * 0.99)] for load in (without, beside)]
    print(f"p99: {at99[1] / at99[0]:.2f} x")
    return {
        "deleted": deleted,
        "seconds": took,
        "start_seconds": start,
        "without": without.seconds,
        "beside": beside.seconds,
    }


def beside_orders(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """How many requests were lost, and the figures."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from tests.app.models import Order

    created = setup_databases(verbosity=0, interactive=False)
    try:
        fill("default", make_original("default"), options.rows, options.expired)
        # The first one reads the programs from the disk.
        start = min(clean(NOTHING)[1] for _ in range(3))
        with tempfile.TemporaryDirectory() as folder, gunicorn(Path(folder), workers=2) as address:
            alone(address, options.rate, 5)
            before = Order.objects.count()
            without, beside, deleted, took = loads(address, options)
        figures = report(without, beside, deleted, took, start)
        orders = Order.objects.count() - before
        print(f"effects: {orders} of {len(without.seconds) + len(beside.seconds)}")
    finally:
        connection.close()
        teardown_databases(created, verbosity=0)
    return without.lost + beside.lost, figures


def crowd(options: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """The same, on a PostgreSQL of its own."""
    with PostgreSQL(options=POSTGRESQL) as server, tempfile.TemporaryDirectory() as folder:
        os.environ[DATABASE_VARIABLE] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["EFFECTS_LOG"] = str(Path(folder, "effects.log"))
        import django

        django.setup()
        return beside_orders(options)


def main(arguments: Sequence[str]) -> int:
    """Parse, start the databases, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleanup", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--expired", type=int, default=500_000)
    parser.add_argument("--database", action="append", choices=DATABASES)
    parser.add_argument("--rate", type=int, default=100, help="orders a second")
    parser.add_argument("--seconds", type=float, default=20, help="of orders without a clean-up")
    parser.add_argument("arguments", nargs="*", help="for the command beside orders, after --")
    options = parser.parse_args(arguments)
    settings = (POSTGRESQL | MARIADB).items()
    about = [*circumstances("psycopg", "PyMySQL"), ", ".join(map(" = ".join, settings))]
    print("\n".join(about))
    print(f"{options.rows:,} records, {options.expired:,} expired; nobody beside")
    paces = sweeps(options)
    print(f"on PostgreSQL, beside {options.rate} orders a second, gunicorn 2 x 8")
    lost, beside = crowd(options)
    save("cleanup", about, {"alone": paces, "beside": beside})
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
