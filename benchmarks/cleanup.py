"""How fast the clean-up of a large table is, and what it costs the requests beside it.

``python -m benchmarks.cleanup`` fills each database with 1,000,000 records, of which 500,000 have
expired, and cleans up. Then on a PostgreSQL it sends fresh orders through gunicorn at a steady 100
a second, and meanwhile deletes what has expired with ``manage.py cleanup_idempotency``. Exits 1 if
a request was lost.
"""

import json
import time
import uuid
from collections.abc import Sequence
from itertools import pairwise

from benchmarks import harness, servers
from benchmarks.clients import Client, SteadyOrders
from benchmarks.environments import run
from benchmarks.tables import fill
from tests.support.servers import ServerUnavailableError

# The defaults are for small tables: of one that does not fit, each page is read and written anew.
OPTIONS = {
    "postgresql": {"shared_buffers": "1GB"},
    "mariadb": {"innodb-buffer-pool-size": "2G", "innodb-log-file-size": "512M"},
    "sqlite": {},
}
#: Of the command, to find nothing.
NOTHING = ("--older-than", "9999d")


def sweep(rows: int, expired: int) -> str:
    """Fill the database of this process, and clean up, with no other client; says how fast."""
    from benchmarks.sites.caller import Site
    from django_idempotency.maintenance.cleanup import Sweep, clean_up
    from django_idempotency.storage.upkeep import Upkeep

    Site().ask(str(uuid.uuid4()))
    fill("default", rows, expired)
    store, times, sizes = Upkeep("default"), [time.perf_counter()], list[int]()

    def progress(deleted: int) -> None:
        times.append(time.perf_counter())
        sizes.append(deleted)

    deleted = clean_up(store, Sweep(), progress).deleted
    took = time.perf_counter() - times[0]
    rates = [size / (b - a) for size, (a, b) in zip(sizes, pairwise(times), strict=True)]
    batches = harness.spread(rates)
    pace = f"{deleted} in {took:.1f} s, {deleted / took:,.0f} a second"
    return f"{pace}, batches at {batches.low:,.0f}-{batches.high:,.0f}"


def sweeps(rows: int, expired: int) -> None:
    """The pace on each database that is to be had."""
    for kind, options in OPTIONS.items():
        try:
            with servers.database(kind, options) as address:
                print(f"{kind}: {servers.apart(sweep, address, rows, expired)}", flush=True)
        except ServerUnavailableError as error:
            print(f"NOT MEASURED: {kind}: {error}")


def clean(site: servers.Site, arguments: Sequence[str] = ()) -> tuple[int, float]:
    """How many records the command deleted, and in how many seconds, its start included."""
    command = ("-m", "django", "cleanup_idempotency", "--format", "json", *arguments)
    began = time.perf_counter()
    printed = run(site.python, *command, **site.variables)
    return json.loads(printed)["deleted"], time.perf_counter() - began


def beside_orders(site: servers.Site, rate: int, seconds: float) -> int:
    """Orders without the clean-up and beside it; how many were lost."""
    # The first one reads the programs from the disk.
    start = min(clean(site, NOTHING)[1] for _ in range(3))
    SteadyOrders(site.url, rate).send_for(5)
    before = site.count()
    without, beside = SteadyOrders(site.url, rate), SteadyOrders(site.url, rate)
    without.send_for(seconds)
    with beside.sent_meanwhile():
        deleted, took = clean(site)
    alone = f"{deleted / (took - start):,.0f} without its start of {start:.1f} s"
    print(f"cleaned up: {deleted} records in {took:.1f} s, {deleted / took:,.0f} a second, {alone}")
    show("without", without)
    show("beside it", beside)
    print(f"effects: {site.count() - before} of {len(without.seconds) + len(beside.seconds)}")
    return without.lost + beside.lost


def show(name: str, orders: SteadyOrders) -> None:
    """A line about the orders."""
    counts = f"{len(orders.seconds):5} requests, {orders.lost} lost"
    print(f"{name:10} {counts}, ms {harness.told(orders.seconds)}")


def measure(
    rows: int = 1_000_000, expired: int = 500_000, rate: int = 100, seconds: float = 20.0
) -> harness.Outcome:
    """Alone, and beside so many orders a second; those without a clean-up take so many seconds."""
    settings = {name: value for each in OPTIONS.values() for name, value in each.items()}
    print(", ".join(map(" = ".join, settings.items())))
    print(f"{rows:,} records, {expired:,} expired; no other client")
    sweeps(rows, expired)
    print(f"on PostgreSQL, beside {rate} orders a second, gunicorn 2 x 8")
    with (
        servers.database("postgresql", OPTIONS["postgresql"]) as address,
        servers.site("ours", address, threads=8) as site,
    ):
        Client(site.url).post("/plain/order/", uuid.uuid4().hex)
        servers.apart(fill, address, "default", rows, expired)
        lost = beside_orders(site, rate, seconds)
    return harness.Outcome(is_right=not lost)


if __name__ == "__main__":
    harness.main(measure, "psycopg", "PyMySQL")
