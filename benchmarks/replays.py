"""What a replay costs: from the cache, from the database, beside the view itself.

``python -m benchmarks.replays --rounds 1000`` starts PostgreSQL, Valkey and two sites on gunicorn,
one with the replay cache and one without, and sends each kind of request in turn, over connections
that stay open. Then the same inside one process, without HTTP, and what an entry takes in memory.
Exits 1 if an answer was not what it should be.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from tests.support.live import gunicorn
from tests.support.servers import DATABASE_VARIABLE, REDIS_VARIABLE, PostgreSQL, Valkey

#: Rounds before those that count; parts of a run whose medians are compared.
WARM, BLOCKS = 50, 20
#: Kinds of requests; what the others are compared with comes first.
NOTHING, BARE = "the view, without a database", "the view, without a key"
FRESH, FRESH_CACHED = "fresh key", "fresh key, cache on"
SQL, CACHED = "replay from the database", "replay from the cache"
RATIOS = ((CACHED, SQL), (CACHED, NOTHING), (CACHED, BARE), (SQL, BARE), (FRESH_CACHED, FRESH))

#: Sends one request; how many seconds it took.
Ask = Callable[[], float]


class Caller:
    """One client with a connection of its own."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
        self.wrong = 0

    def ask(self, path: str, key: str = "", *, replay: bool = False) -> float:
        """Send it; counts an answer that is not what it should be."""
        headers = {"Idempotency-Key": key} if key else {}
        began = time.perf_counter()
        self._connection.request("POST", path, body=b"{}", headers=headers)
        response = self._connection.getresponse()
        response.read()
        seconds = time.perf_counter() - began
        is_replay = response.headers.get("Idempotent-Replayed") == "true"
        self.wrong += response.status != 201 or is_replay is not replay
        return seconds


class Insider:
    """One who calls the views of this process, and no middleware."""

    def __init__(self) -> None:
        from django.test import RequestFactory

        from benchmarks import replay_site
        from django_idempotency import conf

        self._factory, self._site, self._conf = RequestFactory(), replay_site, conf
        self.wrong = 0

    def ask(self, view: str, key: str = "", *, cache: str = "", replay: bool = False) -> float:
        """The same as a caller's."""
        headers = {"Idempotency-Key": key} if key else {}
        request = self._factory.post("/", b"{}", content_type="text/plain", headers=headers)
        self._conf.cache_alias = lambda: cache
        began = time.perf_counter()
        response = getattr(self._site, view)(request)
        seconds = time.perf_counter() - began
        is_replay = response.headers.get("Idempotent-Replayed") == "true"
        self.wrong += response.status_code != 201 or is_replay is not replay
        return seconds


def timed(kinds: Mapping[str, Ask], rounds: int) -> dict[str, list[float]]:
    """The seconds of each kind, which take turns in an order that changes."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    names = list(kinds)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            seconds[name].append(kinds[name]())
    return seconds


def blocks(seconds: Sequence[float]) -> Iterator[float]:
    """The medians of parts of the run."""
    size = max(1, len(seconds) // BLOCKS)
    for first in range(0, len(seconds) - size + 1, size):
        yield median(seconds[first : first + size])


def report(seconds: Mapping[str, Sequence[float]]) -> None:
    """Medians with their spread, and ratios of medians with the spread between parts of the run."""
    for name, values in seconds.items():
        low, middle, high = (value * 1000 for value in quantiles(values, n=4))
        p95 = quantiles(values, n=20)[-1] * 1000
        spread = f"p25-p75 {low:5.2f}-{high:5.2f}   p95 {p95:6.2f}"
        print(f"  {name:<30} p50 {middle:6.2f} ms   {spread}")
    for one, other in RATIOS:
        if one in seconds and other in seconds:
            pairs = zip(blocks(seconds[one]), blocks(seconds[other]), strict=True)
            parts = [a / b for a, b in pairs]
            ratio = median(seconds[one]) / median(seconds[other])
            print(f"  {one} / {other}: {ratio:.2f} ({min(parts):.2f}-{max(parts):.2f})")


@contextmanager
def sites() -> Iterator[tuple[Caller, Caller]]:
    """A caller of the site without the cache, and one of the site with it; a worker each."""
    with tempfile.TemporaryDirectory() as plain, tempfile.TemporaryDirectory() as cached:
        os.environ["BENCHMARK_CACHE"] = "0"
        with gunicorn(Path(plain), workers=1, threads=2) as without:
            os.environ["BENCHMARK_CACHE"] = "1"
            with gunicorn(Path(cached), workers=1, threads=2) as beside:
                yield Caller(without), Caller(beside)


def over_http(rounds: int) -> int:
    """By HTTP; how many answers were wrong."""
    with sites() as (plain, cached):
        key = uuid.uuid4().hex
        kinds: dict[str, Ask] = {
            NOTHING: lambda: plain.ask("/nothing/"),
            BARE: lambda: plain.ask("/bare/"),
            FRESH: lambda: plain.ask("/order/", uuid.uuid4().hex),
            FRESH_CACHED: lambda: cached.ask("/order/", uuid.uuid4().hex),
            SQL: lambda: plain.ask("/order/", key, replay=True),
            CACHED: lambda: cached.ask("/order/", key, replay=True),
        }
        plain.ask("/order/", key)
        timed(kinds, WARM)
        print(f"over HTTP, {rounds} rounds")
        report(timed(kinds, rounds))
        return plain.wrong + cached.wrong


def inside(rounds: int) -> int:
    """Without HTTP; how many answers were wrong."""
    insider, key = Insider(), uuid.uuid4().hex
    kinds: dict[str, Ask] = {
        NOTHING: lambda: insider.ask("nothing"),
        BARE: lambda: insider.ask("bare"),
        FRESH: lambda: insider.ask("order", uuid.uuid4().hex),
        FRESH_CACHED: lambda: insider.ask("order", uuid.uuid4().hex, cache="redis"),
        SQL: lambda: insider.ask("order", key, replay=True),
        CACHED: lambda: insider.ask("order", key, cache="redis", replay=True),
    }
    insider.ask("order", key)
    timed(kinds, WARM)
    print(f"the view alone, in one process, {rounds} rounds")
    report(timed(kinds, rounds))
    return insider.wrong


def memory(valkey: Valkey) -> None:
    """What Valkey says that an entry and its marker take."""
    from django.core.cache import caches

    from django_idempotency.replay_cache.replays import Replays
    from django_idempotency.storage.values import Intent, StoredResponse

    cache: Any = caches["redis"]
    client = cache.client.get_client(write=True)
    intent = Intent(uuid.uuid4(), "user:1", "key", b"f" * 32, "POST", "/order/")
    headers = [("Content-Type", "application/json"), ("Location", "/orders/1234567")]
    print("bytes of memory, by Valkey's MEMORY USAGE")
    for size in (0, 500, 5_000, 50_000):
        client.flushdb()
        slot = Replays("redis", "default").look(intent)
        slot.fill(StoredResponse(201, headers, b"c" * size), 60)
        used = {name[-1:].decode(): client.memory_usage(name) for name in client.scan_iter()}
        print(f"  body of {size:>6,}: entry {used['e']:>6,}, marker {used['m']}")


def measure(rounds: int, valkey: Valkey) -> int:
    """All of it; how many answers were wrong."""
    import django_redis
    import redis
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    created = setup_databases(verbosity=0, interactive=False)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            version = " ".join(str(cursor.fetchone()[0]).split()[:2])
        told = f"Valkey {valkey.info('server')['valkey_version']}"
        clients = f"redis-py {redis.__version__}, django-redis {django_redis.__version__}"
        machine = f"Python {platform.python_version()}, {os.cpu_count()} cores"
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {version}, {told},")
        print(f"{clients}, {machine}, load {os.getloadavg()[0]:.1f}, all on one machine")
        wrong = over_http(rounds)
        wrong += inside(rounds)
        memory(valkey)
    finally:
        connection.close()
        teardown_databases(created, verbosity=0)
    return wrong


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replays", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    options = parser.parse_args(arguments)
    with PostgreSQL() as server, Valkey() as valkey:
        os.environ[DATABASE_VARIABLE] = server.url
        os.environ[REDIS_VARIABLE] = valkey.url
        os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.replay_settings"
        # A connection to the database stays open, as over HTTP.
        os.environ["IDEMPOTENCY_TEST_CONN_MAX_AGE"] = "60"
        import django

        django.setup()
        return int(measure(options.rounds, valkey) > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
