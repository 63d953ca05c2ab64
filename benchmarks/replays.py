"""What a replay costs: from the cache, from the database, beside the view itself.

``python -m benchmarks.replays --rounds 1000`` starts PostgreSQL, Valkey and two sites on gunicorn,
one with the replay cache and one without, and sends each kind of request in turn, over connections
that stay open. Then it asks Valkey what an entry takes in memory. Exits 1 if an answer was not what
it should be.
"""

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks import harness, servers
from benchmarks.clients import Client
from benchmarks.harness import Ask

#: Rounds before those that count.
WARM = 50
NOTHING, BARE = "the view, without a database", "the view, without a key"
FRESH, FRESH_CACHED = "fresh key", "fresh key, cache on"
SQL, CACHED = "replay from the database", "replay from the cache"
RATIOS = ((CACHED, SQL), (CACHED, NOTHING), (CACHED, BARE), (SQL, BARE), (FRESH_CACHED, FRESH))
BODY_SIZES = (0, 500, 5_000, 50_000)


class Orders:
    """A client of one of the sites; counts answers that are not what they should be."""

    def __init__(self, url: str) -> None:
        self._client = Client(url)
        self._old = uuid.uuid4().hex
        self._client.post("/plain/order/", self._old)
        self.wrong = 0

    def ask(self, view: str, key: str = "", *, replays: bool = False) -> float:
        """Send a request; the seconds it took."""
        reply = self._client.post(f"/plain/{view}/", key)
        self.wrong += reply.status != 201 or reply.is_replay is not replays
        return reply.seconds

    def fresh(self) -> float:
        """An order with a new key."""
        return self.ask("order", uuid.uuid4().hex)

    def replay(self) -> float:
        """An order that was answered."""
        return self.ask("order", self._old, replays=True)


def kinds(plain: Orders, cached: Orders) -> dict[str, Ask]:
    """Each kind of request."""
    return {
        NOTHING: partial(plain.ask, "nothing"),
        BARE: partial(plain.ask, "bare"),
        FRESH: plain.fresh,
        FRESH_CACHED: cached.fresh,
        SQL: plain.replay,
        CACHED: cached.replay,
    }


def show(seconds: Mapping[str, Sequence[float]]) -> None:
    """The tables."""
    times = [[name, harness.told(values)] for name, values in seconds.items()]
    harness.print_table(["", "ms"], times)
    ratios = [
        [f"{one} / {other}", harness.ratio(seconds[one], seconds[other])] for one, other in RATIOS
    ]
    harness.print_table(["", "ratio"], ratios)


def show_memory() -> None:
    """What Valkey says that an entry and its marker take."""
    from django.core.cache import caches

    from django_idempotency.replay_cache.replays import Replays
    from django_idempotency.storage.values import Intent, StoredResponse

    cache: Any = caches["redis"]
    client = cache.client.get_client(write=True)
    intent = Intent(uuid.uuid4(), "user:1", "key", b"f" * 32, "POST", "/order/")
    headers = [("Content-Type", "application/json"), ("Location", "/orders/1234567")]
    rows = []
    for size in BODY_SIZES:
        client.flushdb()
        slot = Replays("redis", "default").look(intent)
        slot.fill(StoredResponse(201, headers, b"c" * size), 60)
        used = {name[-1:].decode(): client.memory_usage(name) for name in client.scan_iter()}
        rows.append([f"body of {size:,}", f"{used['e']:,}", f"{used['m']:,}"])
    harness.print_table(["bytes, by Valkey's MEMORY USAGE", "entry", "marker"], rows)


def measure(rounds: int = 1000) -> harness.Outcome:
    """So many requests of each kind."""
    with (
        servers.database("postgresql") as address,
        servers.redis(),
        servers.site("ours", address, workers=1, threads=2) as plain,
        servers.site("ours-redis", address, workers=1, threads=2) as cached,
    ):
        clients = Orders(plain.url), Orders(cached.url)
        harness.timed(kinds(*clients), WARM)
        show(harness.timed(kinds(*clients), rounds))
        servers.apart(show_memory, address)
    return harness.Outcome(not any(client.wrong for client in clients))


if __name__ == "__main__":
    harness.main(measure, "redis", "django-redis")
