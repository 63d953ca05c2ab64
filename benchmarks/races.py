"""How fast a duplicate is told to come back, and what a crowd of them costs everybody else.

``python -m benchmarks.races --racers 64 --keys 1000`` starts a database and gunicorn (4 x 8), lets
64 clients send the same request at the same moment, for each of 1,000 keys, and compares their 409s
with races of requests to a view that does nothing. Then 96 duplicates of one slow request arrive,
without and with ``wait``, while somebody else goes on ordering. Exits 1 unless every key had one
effect.
"""

import argparse
import os
import platform
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import mean
from urllib.parse import urlsplit

from tests.support.live import gunicorn
from tests.support.servers import DATABASE_VARIABLE, MariaDB, PostgreSQL, Server

SERVERS: dict[str, type[Server]] = {"postgresql": PostgreSQL, "mariadb": MariaDB}
SLOW_SECONDS = 3.0
#: One race of bare requests for so many races with a key.
BARE_EVERY = 10


class Caller:
    """One client with a connection of its own, opened by its first request."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=300)

    def post(self, path: str, key: str = "") -> tuple[int, float]:
        """The reply's status and the seconds it took."""
        began = time.perf_counter()
        headers = {"Idempotency-Key": key} if key else {}
        self._connection.request("POST", path, body=b"{}", headers=headers)
        response = self._connection.getresponse()
        response.read()
        return response.status, time.perf_counter() - began


class Crowd:
    """Callers who send the same request at the same moment."""

    def __init__(self, address: str, size: int) -> None:
        self._callers = [Caller(address) for _ in range(size)]
        self._barrier = threading.Barrier(size)
        self._pool = ThreadPoolExecutor(size)
        self.race("/nothing/")

    def race(self, path: str, key: str = "") -> list[tuple[int, float]]:
        """What each of them got."""

        def run(caller: Caller) -> tuple[int, float]:
            self._barrier.wait()
            return caller.post(path, key)

        return list(self._pool.map(run, self._callers))


def percentiles(seconds: Sequence[float]) -> str:
    """In milliseconds."""
    ordered = sorted(seconds)
    parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    at = {name: ordered[int((len(ordered) - 1) * part)] for name, part in parts.items()}
    return "  ".join(f"{name} {value * 1000:6.1f}" for name, value in at.items())


def races(address: str, racers: int, keys: int) -> Counter[int]:
    """Race for each key; prints the figures."""
    crowd = Crowd(address, racers)
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    bare: list[float] = []
    for number in range(keys):
        if number % BARE_EVERY == 0:
            bare += [seconds for _, seconds in crowd.race("/nothing/")]
        replies = crowd.race("/exempt/?act=slow&seconds=0.1", uuid.uuid4().hex)
        statuses.update(status for status, _ in replies)
        refused += [seconds for status, seconds in replies if status == 409]
    print(f"{racers} racers x {keys} keys: {dict(sorted(statuses.items()))}")
    print(f"  a 409, ms             {percentiles(refused)}")
    print(f"  a bare request, ms    {percentiles(bare)}")
    return statuses


def crowded(address: str, duplicates: int, path: str) -> list[float]:
    """What unrelated requests took while duplicates of a slow one arrived, in seconds."""
    key, stranger, seconds = uuid.uuid4().hex, Caller(address), []
    callers = [Caller(address) for _ in range(duplicates + 1)]
    with ThreadPoolExecutor(duplicates + 1) as pool:
        first = pool.submit(callers.pop().post, path, key)
        time.sleep(0.3)
        others = [pool.submit(caller.post, path, key) for caller in callers]
        while not first.done():
            status, took = stranger.post("/exempt/", uuid.uuid4().hex)
            assert status == 201
            seconds.append(took)
        got = Counter(other.result()[0] for other in others)
    print(f"  {duplicates:3} duplicates {dict(got)!s:<22} {percentiles(seconds)}", end="")
    return seconds


def crowds(address: str, wait: str, duplicates: int) -> None:
    """One slow request, alone and in a crowd; prints the figures."""
    print(f"others' requests while one of {SLOW_SECONDS:.0f} s runs, wait={wait}, ms")
    path = f"/exempt/?act=slow&seconds={SLOW_SECONDS}"
    alone = mean(crowded(address, 0, path))
    print(f"  mean {alone * 1000:6.1f}")
    among = mean(crowded(address, duplicates, path))
    print(f"  mean {among * 1000:6.1f}: {among / alone:.1f} x")


@contextmanager
def site(wait: str) -> Iterator[str]:
    """The test app behind gunicorn; ``wait`` is in seconds."""
    os.environ["BENCHMARK_WAIT_SECONDS"] = wait
    with tempfile.TemporaryDirectory() as folder, gunicorn(Path(folder)) as address:
        yield address


def measure(racers: int, keys: int, duplicates: int) -> int:
    """All of it; how many keys had not exactly one effect."""
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from tests.app import effects
    from tests.app.models import Order

    created = setup_databases(verbosity=0, interactive=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            version = str(cursor.fetchone()[0])[:24]
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {version}, {machine}, gunicorn 4 x 8")
        with site("0") as address:
            races(address, racers, keys)
            effects_of_races, runs = Order.objects.count(), effects.count()
            print(f"  effects: {effects_of_races} in the database, {runs} outside")
            crowds(address, "0", duplicates)
        with site("20") as address:
            crowds(address, "20 s", duplicates)
    finally:
        connection.close()
        teardown_databases(created, verbosity=0)
    return abs(effects_of_races - keys) + abs(runs - keys)


def main(arguments: Sequence[str]) -> int:
    """Parse, start the database, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races", description=__doc__)
    parser.add_argument("--racers", type=int, default=64)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--duplicates", type=int, default=96)
    parser.add_argument("--database", choices=SERVERS, default="postgresql")
    options = parser.parse_args(arguments)
    with SERVERS[options.database]() as server, tempfile.TemporaryDirectory() as folder:
        os.environ[DATABASE_VARIABLE] = server.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
        os.environ["EFFECTS_LOG"] = str(Path(folder, "effects.log"))
        import django

        django.setup()
        return int(measure(options.racers, options.keys, options.duplicates) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
