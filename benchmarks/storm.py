"""What a storm of retries, 10,000 duplicates of one key, costs all other clients.

``python -m benchmarks.storm`` starts PostgreSQL, Valkey and gunicorn (2 x 8), sends orders with
keys of their own at a steady rate, and meanwhile lets wrk send one key over 64 connections as fast
as it is answered: first while the request that came first is held, then when it has completed,
without and with the replay cache. As many requests without any key show what the crowd costs, and
not the key. Exits 1 if an order was lost, an answer was wrong, or the key had not one effect.
"""

import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import harness, servers, wrk
from benchmarks.clients import Client, SteadyOrders
from benchmarks.sites.orders.request import BODY

CONNECTIONS, WRK_THREADS = 64, 2
#: Of one wrk: a storm goes on until it has sent enough.
GUST_SECONDS = 1.0
PHASES = ("before", "during", "after")


@dataclass(frozen=True, slots=True)
class Storm:
    """What its requests got, and what all other orders took before, during and after it."""

    name: str
    expected: str
    others: dict[str, SteadyOrders]
    statuses: Counter[str]
    rate: float

    @property
    def faults(self) -> int:
        """Answers of a wrong status, and orders that were lost."""
        wrong = self.statuses.total() - self.statuses[self.expected]
        return wrong + sum(orders.lost for orders in self.others.values())

    def figures(self) -> dict[str, object]:
        """For the plot."""
        times = {phase: harness.percentiles(self.others[phase].seconds) for phase in PHASES}
        return {"name": self.name, **times}

    def row(self) -> list[str]:
        """A line of the table."""
        found = [harness.percentiles(self.others[phase].seconds) for phase in PHASES]
        times = [f"{each['p50']:.1f} / {each['p99']:.1f}" for each in found]
        got = ", ".join(f"{count:,} x {status}" for status, count in self.statuses.items())
        return [self.name, f"{self.rate:,.0f}/s", *times, got]


@dataclass(frozen=True, slots=True)
class Weather:
    """Where the storms are, how many requests they have, and the orders beside them."""

    site: servers.Site
    gate: Path
    requests: int
    rate: int
    seconds: float

    def storm(self, name: str, path: str, expected: str = "201", **options: str) -> Storm:
        """Send one, between two calm phases."""
        others = {phase: SteadyOrders(self.site.url, self.rate) for phase in PHASES}
        others["before"].send_for(self.seconds)
        with others["during"].sent_meanwhile():
            gusts = list(self._gusts(path, **options))
        others["after"].send_for(self.seconds)
        statuses: Counter[str] = Counter()
        for gust in gusts:
            statuses.update(gust.others())
        rate = statuses.total() / sum(gust.seconds for gust in gusts)
        return Storm(name, expected, others, statuses, rate)

    def _gusts(self, path: str, **options: str) -> Iterator[wrk.Answers]:
        sent = 0
        while sent < self.requests:
            gust = wrk.send(
                self.site.url + path,
                connections=CONNECTIONS,
                threads=WRK_THREADS,
                seconds=GUST_SECONDS,
                body=BODY.decode(),
                **options,
            )
            sent += gust.count
            yield gust

    def storms_of_one_key(self, suffix: str = "") -> tuple[list[Storm], int]:
        """While the first request is held, and when it has completed; how many effects it had."""
        key = uuid.uuid4().hex
        self.gate.touch()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(Client(self.site.url).post, "/plain/held/", key)
            time.sleep(0.5)
            try:
                refused = self.storm(f"key refused{suffix}", "/plain/held/", "409", key=key)
            finally:
                self.gate.unlink()
            assert first.result().status == 201
        replayed = self.storm(f"key replayed{suffix}", "/plain/held/", key=key)
        return [refused, replayed], self.site.count(f"nonce = '{key}'")


def measure(requests: int = 10_000, rate: int = 25, seconds: float = 15.0) -> harness.Outcome:
    """Each storm has so many requests, and so many seconds of calm around it."""
    print(f"gunicorn 2 x 8; {wrk.version()}")
    with servers.database("postgresql") as address, servers.redis():
        with weather("ours", address, requests, rate, seconds) as place:
            found = [
                place.storm("no key, no database", "/plain/nothing/", kind="bare"),
                place.storm("no key, an order each", "/plain/bare/", kind="bare"),
            ]
            plain, effects = place.storms_of_one_key()
        with weather("ours-redis", address, requests, rate, seconds) as place:
            cached, effects_cached = place.storms_of_one_key(", cache on")
    found += plain + cached
    faults = sum(storm.faults for storm in found) + abs(effects - 1) + abs(effects_cached - 1)
    print(f"{requests:,} requests or more from {CONNECTIONS} connections")
    others = [f"others {phase}, ms" for phase in PHASES]
    harness.print_table(["storm", "speed", *others, "got"], [storm.row() for storm in found])
    print(f"others: {rate} orders a second, p50 / p99")
    print(f"effects of each key: {effects}, {effects_cached}; faults: {faults}")
    return harness.Outcome(not faults, {"storms": [storm.figures() for storm in found]})


@contextmanager
def weather(name: str, address: str, requests: int, rate: int, seconds: float) -> Iterator[Weather]:
    """One of our sites with a gate, warmed up."""
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder, "gate")
        with servers.site(name, address, threads=8, BENCHMARK_GATE=str(gate)) as site:
            SteadyOrders(site.url, rate).send_for(2)
            yield Weather(site, gate, requests, rate, seconds)


if __name__ == "__main__":
    harness.main(measure, "gunicorn")
