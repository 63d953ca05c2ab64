"""What a request makes the database flush, log and commit, and what that costs on a slow disk.

``python -m benchmarks.flushes`` counts for each kind of request on PostgreSQL and MariaDB, beside
one whose claim waits for the disk as any commit does. Then it measures the ratio to the bare view
where PostgreSQL sleeps before each flush that somebody waits for (``commit_delay``), and where
every round trip takes half a millisecond longer.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, quantiles
from typing import Any
from unittest.mock import patch

from benchmarks.apart import apart
from benchmarks.figures import Ask, circumstances, ratio, save, spread, timed
from benchmarks.network import network
from tests.support.servers import UNAVAILABLE, MariaDB, PostgreSQL, ServerUnavailableError

BARE, FRESH, FLUSHING, REPLAY = KINDS = ("bare", "fresh", "fresh, claim flushed", "replay")
#: Requests that are counted together, and rounds before those that count.
COUNTED, WARM = 100, 20
#: Milliseconds that each flush takes longer.
DELAYS = (0, 1, 3)
NETWORK_SECONDS = 0.0005
#: Of everybody's: what others do meanwhile counts, too, so nobody else may do anything.
POSTGRESQL_COUNTERS = """
    SELECT (SELECT sum(fsyncs) FROM pg_stat_io
            WHERE object = 'wal' AND backend_type = 'client backend') AS flushes,
        (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
        pg_current_wal_insert_lsn() - '0/0' AS log_bytes
"""
# Of all files: where nothing is checkpointed, the log's.
MARIADB_COUNTERS = {
    "flushes": "Innodb_data_fsyncs",
    "log_bytes": "Innodb_os_log_written",
}

#: The counters as they stand.
Look = Callable[[], dict[str, float]]


class Requests:
    """The site of this process, which is sent one request of each kind in turn."""

    def __init__(self) -> None:
        from benchmarks.sites.caller import Site
        from django_idempotency.storage.records import Store

        self._site, self._texts = Site(), Store("default")._texts
        self._known = str(uuid.uuid4())
        self._ask(self._known)
        timed(self.kinds, WARM)

    @property
    def kinds(self) -> dict[str, Ask]:
        """By their names."""
        return {
            BARE: lambda: self._ask(None),
            FRESH: lambda: self._ask(str(uuid.uuid4())),
            FLUSHING: self._flushing,
            REPLAY: lambda: self._ask(self._known),
        }

    def _flushing(self) -> float:
        own = self._texts
        flushed = {
            "claim_unflushed": own.claim,
            "claim_prepared_unflushed": own.claim_prepared,
        }
        with patch.multiple(own, **flushed):
            return self._ask(str(uuid.uuid4()))

    def _ask(self, key: str | None) -> float:
        reply = self._site.ask(key)
        if reply.status != 201:
            raise RuntimeError(f"{reply.status}: {reply.body!r}")
        return reply.wall


def look_at_postgresql() -> dict[str, float]:
    """The counters, this connection's own included."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(POSTGRESQL_COUNTERS)
        names = [column.name for column in cursor.description]
        return dict(zip(names, map(float, cursor.fetchone()), strict=True))


def look_at_mariadb() -> dict[str, float]:
    """The same there."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS")
        told = dict(cursor.fetchall())
    return {name: float(told[variable]) for name, variable in MARIADB_COUNTERS.items()}


def counted(look: Look, ask: Ask, count: int) -> dict[str, float]:
    """By how much the counters go up while so many requests are sent."""
    before = look()
    for _ in range(count):
        ask()
    return {name: value - before[name] for name, value in look().items()}


def counts(kinds: Mapping[str, Ask], look: Look) -> dict[str, dict[str, float]]:
    """What each kind of request adds to the counters."""
    found = {}
    for kind, ask in kinds.items():
        # Looking is counted as well.
        idle, busy = (counted(look, ask, count) for count in (0, COUNTED))
        found[kind] = {name: (busy[name] - idle[name]) / COUNTED for name in busy}
    return found


def times(kinds: Mapping[str, Ask], rounds: int) -> dict[str, dict[str, Any]]:
    """How long each kind takes, and how much longer than the bare view."""
    seconds = timed(kinds, rounds)
    return {
        kind: {
            "ms": spread([second * 1000 for second in its]),
            "ratio": ratio(its, seconds[BARE]),
        }
        for kind, its in seconds.items()
    }


def slower_flushes(requests: Requests, rounds: int) -> dict[str, Any]:
    """The times for each delay of a flush, by its milliseconds."""
    from django.db import connection

    found = {}
    for delay in DELAYS:
        with connection.cursor() as cursor:
            cursor.execute(f"SET commit_siblings = 0; SET commit_delay = {delay * 1000}")
        found[str(delay)] = times(requests.kinds, rounds)
    with connection.cursor() as cursor:
        cursor.execute("RESET commit_delay")
    return found


def _round_trip(rounds: int = 200) -> float:
    """What a statement that does nothing takes where nobody else is in the way."""
    from django.db import connection

    def ask() -> float:
        began = time.perf_counter()
        cursor.execute("SELECT 1")
        return time.perf_counter() - began

    with connection.cursor() as cursor:
        return quantiles([ask() for _ in range(rounds)], n=4)[0]


def _through(port: int) -> float:
    """Connect anew; what a round trip takes there."""
    from django.db import connection

    connection.close()
    connection.settings_dict["PORT"] = port
    return _round_trip()


def slower_network(requests: Requests, rounds: int) -> dict[str, Any]:
    """The times with a network in between, and what that really adds to a round trip."""
    from django.db import connection

    port = connection.settings_dict["PORT"]
    near = _round_trip()
    # Passing on takes time of its own: what is asked for is corrected once.
    asked = NETWORK_SECONDS / 2
    with network(port, asked) as other:
        asked += NETWORK_SECONDS - (_through(other) - near)
    with network(port, max(0.0, asked)) as other:
        before = _through(other)
        found = times(requests.kinds, rounds)
        far = mean([before, _round_trip()])
        connection.close()
    connection.settings_dict["PORT"] = port
    return {"added_ms": (far - near) * 1000, "near_ms": near * 1000, "kinds": found}


def measure_postgresql(rounds: int) -> dict[str, Any]:
    """All of it."""
    requests = Requests()
    return {
        "counts": counts(requests.kinds, look_at_postgresql),
        "slow_flush": slower_flushes(requests, rounds),
        "network": slower_network(requests, rounds),
    }


def measure_mariadb(rounds: int) -> dict[str, Any]:
    """Counts and times; no claim of its is spared the flush."""
    requests = Requests()
    kinds = {kind: ask for kind, ask in requests.kinds.items() if kind != FLUSHING}
    return {"counts": counts(kinds, look_at_mariadb), "times": times(kinds, rounds)}


def show_counts(found: Mapping[str, Mapping[str, float]]) -> None:
    """What each request adds."""
    print(f"  {'for each request':<22} {'flushes':>8} {'commits':>8} {'log, bytes':>11}")
    for kind, its in found.items():
        commits = f"{its['commits']:.2f}" if "commits" in its else "-"
        print(f"  {kind:<22} {its['flushes']:8.2f} {commits:>8} {its['log_bytes']:11,.0f}")


def show_times(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of medians and ratios."""
    print(f"  {title:<22} {'ms':>20} {'ratio to bare':>18}")
    for kind, its in found.items():
        told = "" if kind == BARE else f"{its['ratio']!s:>18}"
        print(f"  {kind:<22} {its['ms']!s:>20} {told}".rstrip())


def show(found: Mapping[str, Any]) -> None:
    """What was measured on one database."""
    show_counts(found["counts"])
    if "times" in found:
        show_times("as it is", found["times"])
    for delay, its in found.get("slow_flush", {}).items():
        show_times(f"flush + {delay} ms", its)
    if "network" in found:
        near, added = found["network"]["near_ms"], found["network"]["added_ms"]
        print(f"  a round trip takes {near:.2f} ms, with the network {added:.2f} ms longer")
        show_times("with the network", found["network"]["kinds"])


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flushes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=400, help="requests of each kind")
    options = parser.parse_args(arguments)
    about = circumstances("djangorestframework", "psycopg", "PyMySQL")
    print("\n".join(about))
    figures = {}
    measures = {PostgreSQL: measure_postgresql, MariaDB: measure_mariadb}
    for kind, measure in measures.items():
        print(f"\n{kind.__name__}")
        try:
            with kind() as server:
                figures[kind.__name__.lower()] = apart(measure, server.url, options.rounds)
        except ServerUnavailableError as error:
            print(f"NOT MEASURED: {error}")
        else:
            show(figures[kind.__name__.lower()])
    save("flushes", about, figures)
    return 0 if figures else UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
