"""What a storm of retries, 10,000 duplicates of one key, costs everybody else.

``python -m benchmarks.storm`` starts PostgreSQL, Valkey and gunicorn (2 x 8), sends orders with
keys of their own at a steady rate, and meanwhile lets wrk send one key over 64 connections as fast
as it is answered: first while the request that came first is held, then when it has completed,
without and with the replay cache. As many requests without any key show what is the crowd's and not
the key's. Exits 1 if an order was lost, an answer was wrong, or the key had not one effect.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import wrk
from benchmarks.cleanup import Load, alone
from benchmarks.figures import circumstances, save
from benchmarks.load import version_of
from benchmarks.races import Caller
from tests.support.live import gunicorn
from tests.support.servers import (
    DATABASE_VARIABLE,
    REDIS_VARIABLE,
    UNAVAILABLE,
    PostgreSQL,
    ServerUnavailableError,
    Valkey,
)

GATE_VARIABLE = "BENCHMARK_GATE"
CONNECTIONS, WRK_THREADS = 64, 2
#: Of one wrk: a storm goes on until it has sent enough.
GUST_SECONDS = 1.0


@dataclass
class Others:
    """What the orders beside a storm took, in seconds."""

    orders: int
    lost: int
    p50: float
    p99: float

    @classmethod
    def of(cls, load: Load) -> "Others":
        ordered = sorted(load.seconds)
        at = [ordered[int((len(ordered) - 1) * part)] for part in (0.5, 0.99)]
        return cls(len(ordered), load.lost, *at)


@dataclass
class Storm:
    """What its requests got, and what the others did before, during and after it."""

    name: str
    before: Others
    during: Others
    after: Others
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.statuses.total() / self.seconds


@dataclass(frozen=True, slots=True)
class Weather:
    """Where the storms are, how many requests they have, and what goes on beside them."""

    address: str
    requests: int
    rate: int
    seconds: float

    def storm(self, name: str, path: str, **options: str) -> Storm:
        """Let one break out; says what came of it."""
        before = alone(self.address, self.rate, self.seconds, "/order/")
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            load = Load(self.address, self.rate, "/order/")
            during = pool.submit(load.run, lambda: not ended.is_set())
            gusts = list(self._gusts(path, **options))
            ended.set()
        after = alone(self.address, self.rate, self.seconds, "/order/")
        storm = Storm(name, Others.of(before), Others.of(during.result()), Others.of(after))
        for gust in gusts:
            storm.seconds += gust.seconds
            storm.statuses.update(gust.statuses)
            storm.statuses += Counter(lost=gust.lost)
        show(storm)
        return storm

    def _gusts(self, path: str, **options: str) -> Iterator[wrk.Answers]:
        sent = 0
        while sent < self.requests:
            gust = wrk.send(
                self.address + path,
                connections=CONNECTIONS,
                threads=WRK_THREADS,
                seconds=GUST_SECONDS,
                **options,
            )
            sent += gust.count
            yield gust

    def storms_of_one_key(self, suffix: str = "") -> tuple[Storm, Storm, int]:
        """While the first request is held, and when it has completed; how many effects it had."""
        from tests.app.models import Order

        key, gate = uuid.uuid4().hex, Path(os.environ[GATE_VARIABLE])
        gate.touch()
        # As benchmarks.races.Caller sends it: the same request has the same headers.
        same = {"key": key, "content_type": ""}
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(Caller(self.address).post, "/held/", key)
            time.sleep(0.5)
            try:
                refused = self.storm(f"key refused{suffix}", "/held/", **same)
            finally:
                gate.unlink()
            assert first.result()[0] == 201
        replayed = self.storm(f"key replayed{suffix}", "/held/", **same)
        return refused, replayed, Order.objects.filter(nonce=key).count()


def show(storm: Storm) -> None:
    """A line of the table."""
    others = "  ".join(
        f"{each.p50 * 1000:6.1f} {each.p99 * 1000:6.1f}"
        for each in (storm.before, storm.during, storm.after)
    )
    got = ", ".join(f"{count:,} x {status}" for status, count in storm.statuses.items())
    print(f"{storm.name:<27}{storm.rate:6,.0f}/s  {others}  {got}", flush=True)


def heading(options: argparse.Namespace) -> None:
    """What the columns are."""
    print(f"{options.requests:,} requests or more from {CONNECTIONS} connections;", end=" ")
    print(f"others: {options.rate} orders/s, ms")
    columns = "  ".join(f"{name:<7}" for name in ("before", "during", "after"))
    print(f"{'':<38}{columns.replace('  ', '        ')}")
    print(f"{'storm':<28}{'speed':>6}    " + "    ".join(["p50    p99"] * 3))


@contextmanager
def site(options: argparse.Namespace, cache: str) -> Iterator[Weather]:
    """The site of benchmarks.replays behind gunicorn, with the replay cache or without."""
    os.environ["BENCHMARK_CACHE"] = cache
    with tempfile.TemporaryDirectory() as folder:
        os.environ[GATE_VARIABLE] = str(Path(folder, "gate"))
        with gunicorn(Path(folder), workers=2, threads=8) as address:
            alone(address, options.rate, 2, "/order/")
            yield Weather(address, options.requests, options.rate, options.seconds)


def storms(options: argparse.Namespace) -> tuple[list[Storm], list[int]]:
    """All of them, and the effects of each key."""
    heading(options)
    with site(options, cache="0") as weather:
        nothing = weather.storm("no key, no database", "/nothing/", kind="bare")
        bare = weather.storm("no key, an order each", "/bare/", kind="bare")
        *plain, effects = weather.storms_of_one_key()
    with site(options, cache="1") as weather:
        *cached, effects_cached = weather.storms_of_one_key(", cache on")
    return [nothing, bare, *plain, *cached], [effects, effects_cached]


def faults(found: Sequence[Storm], effects: Sequence[int]) -> int:
    """Orders lost, answers of a wrong status, and effects too many or too few."""
    total = sum(abs(count - 1) for count in effects)
    for storm in found:
        expected = "409" if storm.name.startswith("key refused") else "201"
        total += storm.statuses.total() - storm.statuses[expected]
        total += sum(others.lost for others in (storm.before, storm.during, storm.after))
    return total


def measure(options: argparse.Namespace, valkey: Valkey) -> int:
    """All of it; the exit status."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    created = setup_databases(verbosity=0, interactive=False)
    try:
        told = valkey.info("server")["valkey_version"]
        about = circumstances(
            "gunicorn", PostgreSQL=version_of(os.environ[DATABASE_VARIABLE]), Valkey=told
        )
        print("\n".join(about))
        found, effects = storms(options)
        wrong = faults(found, effects)
        print(f"effects of each key: {', '.join(map(str, effects))}; faults: {wrong}")
        figures = [vars(storm) | {"rate": storm.rate} for storm in found]
        save("storm", about, {"storms": figures, "effects": effects})
    finally:
        connection.close()
        teardown_databases(created, verbosity=0)
    return int(wrong > 0)


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000, help="of each storm")
    parser.add_argument("--rate", type=int, default=25, help="orders a second beside it")
    parser.add_argument("--seconds", type=float, default=15, help="before and after each storm")
    options = parser.parse_args(arguments)
    try:
        wrk.program()
        with PostgreSQL() as server, Valkey() as valkey:
            os.environ[DATABASE_VARIABLE] = server.url
            os.environ[REDIS_VARIABLE] = valkey.url
            os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.replay_settings"
            import django

            django.setup()
            return measure(options, valkey)
    except ServerUnavailableError as error:
        print(error, file=sys.stderr)
        return UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
