"""What a request and the clean-up cost where the table is large, beside where it is small.

``python -m benchmarks.scale`` fills databases of one PostgreSQL with 10,000, 1,000,000 and
10,000,000 records, and lets requests to them take turns: bare ones, fresh keys, replays of keys
from anywhere in the table, and claims alone. Then it counts what a fresh key logs, what a record
takes on the disk, and how fast the clean-up is. At last :mod:`benchmarks.bloat` makes and cleans up
records, cycle by cycle. Exits 1 if a replay from the largest table takes 1.2 times one from the
smallest.
"""

import argparse
import json
import random
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import bloat
from benchmarks.apart import apart
from benchmarks.figures import Ask, circumstances, ratio, save, spread, timed
from benchmarks.tables import fill, key, owner, settle
from tests.support.servers import UNAVAILABLE, PostgreSQL, ServerUnavailableError

BARE, FRESH, REPLAY, CLAIM = KINDS = ("bare", "fresh", "replay", "claim alone")
SETTINGS = "benchmarks.sites.sharded_settings"
LIMIT = 1.2
WARM, LOGGED = 30, 100
#: What the clean-up finds: a tenth, but not more than this.
MOST_EXPIRED = 500_000
# As a server has it whose table is that large: its indexes fit into memory.
SERVER = {"shared_buffers": "2GB", "max_wal_size": "16GB"}
SIZES = """
    SELECT pg_table_size(indrelid), sum(pg_relation_size(indexrelid)), pg_table_size(indrelid)
        + sum(pg_relation_size(indexrelid)) FROM pg_index WHERE indrelid = %s::regclass
    GROUP BY indrelid
"""


def alias_for(rows: int) -> str:
    """The database with so many records; Django wants one that is called so."""
    return f"of{rows}"


@dataclass
class Table:
    """One of the databases, and requests to it."""

    site: Any
    rows: int

    def __post_init__(self) -> None:
        from django_idempotency.models import IdempotencyRecord

        self.alias = alias_for(self.rows)
        self.expired = min(self.rows // 10, MOST_EXPIRED)
        self._body = self.ask(str(uuid.uuid4())).body
        self._original = IdempotencyRecord.objects.using(self.alias).get()
        fill(self.alias, self._original.pk, self.rows, self.expired)

    def ask(self, own_key: str | None, customer: int = 1) -> Any:
        """Send an order to this database."""
        headers = {"HTTP_X_ALIAS": self.alias, "HTTP_X_CUSTOMER": str(customer)}
        reply = self.site.ask(own_key, **headers)
        if reply.status != 201:
            raise RuntimeError(f"{reply.status}: {reply.body!r}")
        return reply

    def bare(self) -> float:
        """Without a key."""
        return float(self.ask(None).wall)

    def fresh(self) -> float:
        """With a key of its own, of any customer."""
        return float(self.ask(str(uuid.uuid4()), owner(random.randrange(self.rows))).wall)

    def replay(self) -> float:
        """With the key of any record that has hours to go: filling the others took minutes."""
        number = random.randint((self.expired + self.rows) // 2, self.rows)
        reply = self.ask(key(number), owner(number))
        if reply.body != self._body:
            raise RuntimeError("no replay")
        return float(reply.wall)

    def claim(self) -> float:
        """What comes before a view runs, without Django's part."""
        from django_idempotency.http.keys import record_id
        from django_idempotency.policy import Policy
        from django_idempotency.protocol.claims import Claim
        from django_idempotency.protocol.waiting import obtain
        from django_idempotency.storage.records import Store
        from django_idempotency.storage.values import Intent

        scope, own_key = f"user:{owner(random.randrange(self.rows))}", str(uuid.uuid4())
        known = self._original
        fingerprint, place = bytes(known.fingerprint), (known.method, known.path)
        intent = Intent(record_id(scope, own_key), scope, own_key, fingerprint, *place)
        began = time.perf_counter()
        claim = obtain(Store(self.alias), intent, Policy())
        seconds = time.perf_counter() - began
        if not isinstance(claim, Claim):
            raise TypeError(claim)
        return seconds

    @property
    def kinds(self) -> dict[str, Ask]:
        """By their names."""
        return dict(zip(KINDS, (self.bare, self.fresh, self.replay, self.claim), strict=True))

    def _values(self, query: str, *params: Any) -> tuple[Any, ...]:
        from django.db import connections

        with connections[self.alias].cursor() as cursor:
            cursor.execute(query, params)
            return tuple(cursor.fetchone())

    def logged(self) -> float:
        """Bytes of log for each fresh key."""
        (before,) = self._values("SELECT pg_current_wal_insert_lsn() - '0/0'")
        for _ in range(LOGGED):
            self.fresh()
        (after,) = self._values("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return float(after - before) / LOGGED

    def figures(self) -> dict[str, Any]:
        """What is not a time of a request."""
        table, indexes, _ = self._values(SIZES, self._original._meta.db_table)
        settle(self.alias)
        # The first change of a page after a checkpoint logs the whole page.
        found = {"log_bytes_after_checkpoint": self.logged(), "log_bytes": self.logged()}
        return found | {
            "table_bytes": table / self.rows,
            "index_bytes": float(indexes) / self.rows,
            "clean_up_rate": self.clean_up(),
        }

    def clean_up(self) -> float:
        """Records a second."""
        from django_idempotency.maintenance.cleanup import Sweep, clean_up
        from django_idempotency.storage.upkeep import Upkeep

        began = time.perf_counter()
        deleted = clean_up(Upkeep(self.alias), Sweep()).deleted
        return deleted / (time.perf_counter() - began)


def measure(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """All of it, the smallest first."""
    from benchmarks.sites.caller import Site

    site = Site()
    tables = {rows: Table(site, rows) for rows in sizes}
    kinds = {
        f"{kind} {rows}": ask for rows, its in tables.items() for kind, ask in its.kinds.items()
    }
    timed(kinds, WARM)
    seconds = timed(kinds, rounds)
    times = {
        kind: {
            str(rows): {
                "ms": spread([second * 1000 for second in seconds[f"{kind} {rows}"]]),
                "ratio": ratio(seconds[f"{kind} {rows}"], seconds[f"{kind} {sizes[0]}"]),
            }
            for rows in sizes
        }
        for kind in KINDS
    }
    return {"times": times, "tables": {str(rows): its.figures() for rows, its in tables.items()}}


def show(found: Mapping[str, Any]) -> None:
    """The tables."""
    print(f"{'':14} {'records':>10} {'ms':>20} {'ratio':>18}")
    for kind, sizes in found["times"].items():
        for rows, its in sizes.items():
            print(f"{kind:14} {int(rows):>10,} {its['ms']!s:>20} {its['ratio']!s:>18}")
    heads = ("log of a fresh key", "just after a checkpoint", "table", "indexes", "cleaned up/s")
    print(f"{'records':>10}  bytes: {', '.join(heads[:2])}; of a record: {', '.join(heads[2:])}")
    for rows, its in found["tables"].items():
        log, whole = its["log_bytes"], its["log_bytes_after_checkpoint"]
        sizes, rate = (its["table_bytes"], its["index_bytes"]), its["clean_up_rate"]
        told = f"{log:>8,.0f} {whole:>8,.0f} {sizes[0]:>8,.0f} {sizes[1]:>8,.0f} {rate:>10,.0f}"
        print(f"{int(rows):>10,} {told}")


def main(arguments: Sequence[str]) -> int:
    """Parse, start the server, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=300, help="requests of each kind and size")
    parser.add_argument("--cycles", type=int, default=10, help="of records made and cleaned up")
    parser.add_argument("--keys", type=int, help="a cycle; a hundredth of the largest table's")
    options = parser.parse_args(arguments)
    rows = sorted(options.rows)
    about = [*circumstances("psycopg"), ", ".join(" = ".join(each) for each in SERVER.items())]
    print("\n".join(about))
    keys = options.keys or rows[-1] // 100
    try:
        found = _on_a_server(measure, [alias_for(each) for each in rows], rows, options.rounds)
        show(found)
        found["bloat"] = _on_a_server(bloat.measure, bloat.ALIASES, options.cycles, keys)
        bloat.show(found["bloat"])
    except ServerUnavailableError as error:
        print(f"NOT MEASURED: {error}")
        return UNAVAILABLE
    save("scale", about, found)
    return int(found["times"][REPLAY][str(rows[-1])]["ratio"].median > LIMIT)


def _on_a_server(run: Any, aliases: Sequence[str], *arguments: Any) -> Any:
    """What it returns in a process that has databases of these names; Django wants a default."""
    with PostgreSQL(options=SERVER) as server:
        shards = json.dumps(dict.fromkeys(("default", *aliases), server.url))
        variables = {"DJANGO_SETTINGS_MODULE": SETTINGS, "BENCHMARK_SHARDS": shards}
        return apart(run, server.url, *arguments, **variables)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
