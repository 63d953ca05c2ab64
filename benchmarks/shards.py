"""Customers spread over two PostgreSQL servers by ``using``: a record is where its rows are.

``python -m benchmarks.shards`` sends orders of many customers and counts the rows on each server,
compares requests with those of a site on one server, alone and from several threads, and kills one
of the servers. Both share this machine, so they cannot do more than one does: what is asked is
whether spreading costs anything. Exits 1 if a row is where it should not be, or a customer of the
server that lives was not served.
"""

import argparse
import json
import logging
import os
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from benchmarks.environments import variables
from benchmarks.figures import circumstances, ratio, save, spread, timed
from benchmarks.sites.contestants import CONTESTANTS
from tests.support.servers import UNAVAILABLE, PostgreSQL, Server, ServerUnavailableError

ALIASES = ("default", "second")
CUSTOMERS, WARM, THREADS = 100, 20, 4
ROUNDS_A_SLICE = 20
#: On one server, where all customers with even numbers are, and on both.
ONE, BOTH = "one server", "two servers"
SLICE_SECONDS = 0.5


def customer_on(kind: str) -> int:
    """Any one of those."""
    number = random.randrange(CUSTOMERS)
    return number - number % 2 if kind == ONE else number


class Shop:
    """The site of this process; counts what it told its customers."""

    def __init__(self) -> None:
        from benchmarks.sites.caller import Site

        self._site = Site()
        self.keys = {number: str(uuid.uuid4()) for number in range(CUSTOMERS)}

    def ask(self, customer: int, key: str | None) -> Any:
        """One order of a customer."""
        return self._site.ask(key, HTTP_X_CUSTOMER=str(customer))

    def statuses(self, keys: dict[int, str]) -> dict[str, dict[str, int]]:
        """What the customers of each server are told, and how often."""
        told: dict[str, Counter[str]] = {alias: Counter() for alias in ALIASES}
        for customer, key in keys.items():
            told[ALIASES[customer % 2]][str(self.ask(customer, key).status)] += 1
        return {alias: dict(statuses) for alias, statuses in told.items()}

    def fresh(self, kind: str) -> float:
        """A new key."""
        return float(self.ask(customer_on(kind), str(uuid.uuid4())).wall)

    def replay(self, kind: str) -> float:
        """One that was answered."""
        customer = customer_on(kind)
        return float(self.ask(customer, self.keys[customer]).wall)

    def bare(self, kind: str) -> float:
        """None."""
        return float(self.ask(customer_on(kind), None).wall)


def rows() -> dict[str, dict[str, int]]:
    """Orders and records on each server, and records whose order is not beside them."""
    from benchmarks.sites.orders.models import Order
    from django_idempotency.models import IdempotencyRecord

    found = {}
    for alias in ALIASES:
        orders = set(Order.objects.using(alias).values_list("nonce", flat=True))
        bodies = IdempotencyRecord.objects.using(alias).values_list("response_body", flat=True)
        nonces = {json.loads(bytes(body or b"{}"))["nonce"] for body in bodies}
        found[alias] = {
            "orders": len(orders),
            "records": len(nonces),
            "astray": len(nonces ^ orders),
        }
    return found


def _busily(shop: Shop, kind: str) -> float:
    """Fresh keys a second, from all threads."""
    end = time.perf_counter() + SLICE_SECONDS

    def run() -> int:
        count = 0
        while time.perf_counter() < end:
            shop.fresh(kind)
            count += 1
        return count

    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        sent = sum(each.result() for each in [pool.submit(run) for _ in range(THREADS)])
    return sent / (time.perf_counter() - began)


def _beside(ask: Callable[[str], float], rounds: int) -> dict[str, list[float]]:
    """What came of either kind, in turn."""
    return timed({kind: partial(ask, kind) for kind in (ONE, BOTH)}, rounds)


def _figures(found: Mapping[str, Sequence[float]], scale: float = 1.0) -> dict[str, Any]:
    spreads = {kind: spread([each * scale for each in its]) for kind, its in found.items()}
    return {"kinds": spreads, "ratio": ratio(found[BOTH], found[ONE])}


def compare(shop: Shop, rounds: int) -> dict[str, Any]:
    """Both servers beside one: milliseconds of each kind, and fresh keys a second."""
    found = {}
    for name, ask in (("bare", shop.bare), ("fresh", shop.fresh), ("replay", shop.replay)):
        _beside(ask, WARM)
        found[f"{name}, ms"] = _figures(_beside(ask, rounds), 1000)
    rates = _beside(partial(_busily, shop), max(2, rounds // ROUNDS_A_SLICE))
    return found | {f"fresh/s, {THREADS} threads": _figures(rates)}


def kill(shop: Shop, server: Server) -> dict[str, Any]:
    """What customers are told while the second server is down, and with the same keys after."""
    keys = {number: str(uuid.uuid4()) for number in range(CUSTOMERS)}
    server.crash()
    # Each failure would be told with its whole story.
    logging.disable()
    try:
        down = shop.statuses(keys)
    finally:
        server.start()
    # A connection that broke is noticed by the request that meets it.
    shop.statuses(shop.keys)
    logging.disable(logging.NOTSET)
    return {"down": down, "back": shop.statuses(keys)}


def measure(server: Server, rounds: int) -> dict[str, Any]:
    """All of it."""
    shop = Shop()
    told = {"first": shop.statuses(shop.keys), "again": shop.statuses(shop.keys)}
    found = {"told": told, "rows": rows()}
    return found | {"compared": compare(shop, rounds), "killed": kill(shop, server)}


def show(found: dict[str, Any]) -> None:
    """The tables."""
    for alias, its in found["rows"].items():
        counts = f"{its['orders']} orders, {its['records']} records, {its['astray']} astray"
        print(f"{alias:<8} {counts}; told {found['told']['first'][alias]}")
    print(f"{'':<22} {ONE:>22} {BOTH:>22} {'ratio':>18}")
    for name, its in found["compared"].items():
        one, both = its["kinds"][ONE], its["kinds"][BOTH]
        print(f"{name:<22} {one!s:>22} {both!s:>22} {its['ratio']!s:>18}")
    for moment, told in found["killed"].items():
        print(f"the second one {moment}: {told}")


def is_right(found: dict[str, Any]) -> bool:
    """Whether all rows are where they should be, and everybody was served who could be."""
    served = {"201": CUSTOMERS // 2}
    killed = found["killed"]
    return (
        not any(its["astray"] for its in found["rows"].values())
        and killed["down"] == {ALIASES[0]: served, ALIASES[1]: {"503": CUSTOMERS // 2}}
        and killed["back"] == dict.fromkeys(ALIASES, served)
    )


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="requests of each kind")
    options = parser.parse_args(arguments)
    about = circumstances("psycopg")
    print("\n".join(about))
    try:
        with PostgreSQL() as first, PostgreSQL() as second:
            shards = dict(zip(ALIASES, (first.url, second.url), strict=True))
            os.environ.update(variables(CONTESTANTS["ours"], first.url))
            os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.sites.sharded_settings"
            os.environ["BENCHMARK_SHARDS"] = json.dumps(shards)
            import django

            django.setup()
            found = measure(second, options.rounds)
    except ServerUnavailableError as error:
        print(f"NOT MEASURED: {error}")
        return UNAVAILABLE
    show(found)
    save("shards", about, found)
    return int(not is_right(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
