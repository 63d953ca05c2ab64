"""How fast a duplicate gets its 409 where many send the same request at the same moment.

``python -m benchmarks.races --racers 64 --keys 1000`` starts PostgreSQL and gunicorn (4 x 8), lets
64 clients race for each of 1,000 keys, and compares their 409s with races of requests to a view
that does nothing. Exits 1 unless every key had one effect.
"""

import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from benchmarks import harness, servers
from benchmarks.clients import Client, Reply

#: One race of bare requests for so many races with a key.
BARE_EVERY = 10


class Crowd:
    """Clients that send the same request at the same moment."""

    def __init__(self, url: str, size: int) -> None:
        self._clients = [Client(url) for _ in range(size)]
        self._barrier = threading.Barrier(size)
        self._pool = ThreadPoolExecutor(size)
        self.race("/plain/nothing/")

    def race(self, path: str, key: str = "") -> list[Reply]:
        """What each of them got."""

        def run(client: Client) -> Reply:
            self._barrier.wait()
            return client.post(path, key)

        return list(self._pool.map(run, self._clients))


def races(url: str, racers: int, keys: int) -> None:
    """Race for each key, and print the figures."""
    crowd = Crowd(url, racers)
    replies: list[Reply] = []
    bare: list[float] = []
    for number in range(keys):
        if number % BARE_EVERY == 0:
            bare += [reply.seconds for reply in crowd.race("/plain/nothing/")]
        replies += crowd.race("/plain/order/?seconds=0.1", uuid.uuid4().hex)
    refused = [reply.seconds for reply in replies if reply.status == 409]
    statuses = Counter(reply.status for reply in replies)
    print(f"{racers} racers x {keys} keys: {dict(sorted(statuses.items()))}")
    print(f"  a 409, ms             {harness.told(refused)}")
    print(f"  a bare request, ms    {harness.told(bare)}")


def measure(racers: int = 64, keys: int = 1000) -> harness.Outcome:
    """So many clients race for each of so many keys."""
    print("gunicorn 4 x 8")
    with (
        servers.database("postgresql") as address,
        servers.site("ours", address, workers=4, threads=8) as site,
    ):
        races(site.url, racers, keys)
        effects = site.count()
    print(f"  effects: {effects}")
    return harness.Outcome(effects == keys)


if __name__ == "__main__":
    harness.main(measure)
