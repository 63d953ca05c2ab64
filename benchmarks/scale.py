"""What a request costs where the table is large, beside where it is small.

``python -m benchmarks.scale`` fills databases of one PostgreSQL with 10,000, 1,000,000 and
10,000,000 records, and lets requests to them take turns: bare ones, fresh keys, and replays of keys
from anywhere in the table. Then it counts what a fresh key logs, and what a record takes on the
disk.
"""

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import servers
from benchmarks.harness import Ask, Outcome, compared, main, print_table, timed
from benchmarks.sites.router import Chosen
from benchmarks.tables import fill, key, settle

KINDS = ("bare", "fresh", "replay")
WARM, LOGGED = 30, 100
#: What the clean-up finds: a tenth, but not more than this.
MOST_EXPIRED = 500_000
# As a server has it whose table is that large: its indexes fit into memory.
SERVER = {"shared_buffers": "2GB", "max_wal_size": "16GB"}
SIZES = """
    SELECT pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
    WHERE relname = 'django_idempotency_idempotencyrecord'
"""


def alias_for(rows: int) -> str:
    """The database with so many records."""
    return f"of{rows}"


@dataclass
class Table:
    """One of the databases, and requests to it."""

    site: Any
    rows: int

    def __post_init__(self) -> None:
        self.alias = alias_for(self.rows)
        self.expired = min(self.rows // 10, MOST_EXPIRED)
        self._body = self._ask(str(uuid.uuid4())).body
        fill(self.alias, self.rows, self.expired)

    def _ask(self, own_key: str | None) -> Any:
        Chosen.alias = self.alias
        reply = self.site.ask(own_key)
        if reply.status != 201:
            raise RuntimeError(f"{reply.status}: {reply.body!r}")
        return reply

    def bare(self) -> float:
        """An order without a key."""
        return float(self._ask(None).wall)

    def fresh(self) -> float:
        """One with a new key."""
        return float(self._ask(str(uuid.uuid4())).wall)

    def replay(self) -> float:
        """One with the key of any record that has hours to go: filling the others took minutes."""
        reply = self._ask(key(random.randint((self.expired + self.rows) // 2, self.rows)))
        if reply.body != self._body:
            raise RuntimeError("no replay")
        return float(reply.wall)

    @property
    def kinds(self) -> dict[str, Ask]:
        """By their names."""
        return dict(zip(KINDS, (self.bare, self.fresh, self.replay), strict=True))

    def _values(self, query: str) -> tuple[Any, ...]:
        from django.db import connections

        with connections[self.alias].cursor() as cursor:
            cursor.execute(query)
            return tuple(cursor.fetchone())

    def logged(self) -> float:
        """Bytes of log for each fresh key."""
        (before,) = self._values("SELECT pg_current_wal_insert_lsn() - '0/0'")
        for _ in range(LOGGED):
            self.fresh()
        (after,) = self._values("SELECT pg_current_wal_insert_lsn() - '0/0'")
        return float(after - before) / LOGGED

    def figures(self) -> dict[str, float]:
        """What is not a time of a request."""
        table, indexes = self._values(SIZES)
        settle(self.alias)
        # The first change of a page after a checkpoint logs the whole page.
        return {
            "log_bytes_after_checkpoint": self.logged(),
            "log_bytes": self.logged(),
            "table_bytes": table / self.rows,
            "index_bytes": indexes / self.rows,
        }


def measure_sizes(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """Requests to all tables, the smallest first, and then each table by itself."""
    from benchmarks.sites.caller import Site

    site = Site()
    tables = {str(rows): Table(site, rows) for rows in sizes}
    asks = {(kind, rows): ask for rows, its in tables.items() for kind, ask in its.kinds.items()}
    timed(asks, WARM)
    seconds = timed(asks, rounds)
    times = {
        kind: compared({rows: seconds[kind, rows] for rows in tables}, str(sizes[0]))
        for kind in KINDS
    }
    return {"times": times, "tables": {rows: its.figures() for rows, its in tables.items()}}


def show(found: Mapping[str, Any]) -> None:
    """The tables."""
    rows = [
        [kind, f"{int(rows):,}", its["ms"], its["ratio"]]
        for kind, sizes in found["times"].items()
        for rows, its in sizes.items()
    ]
    print_table(["", "records", "ms", "ratio"], rows)
    names = {
        "log_bytes": "log of a fresh key, bytes",
        "log_bytes_after_checkpoint": "just after a checkpoint",
        "table_bytes": "table, bytes a record",
        "index_bytes": "indexes",
    }
    rows = [
        [f"{int(rows):,}", *(f"{its[name]:,.0f}" for name in names)]
        for rows, its in found["tables"].items()
    ]
    print_table(["records", *names.values()], rows)


def measure(rows: tuple[int, ...] = (10_000, 1_000_000, 10_000_000), rounds: int = 300) -> Outcome:
    """Tables of so many rows; so many requests of each kind to each."""
    print(", ".join(" = ".join(each) for each in SERVER.items()))
    sizes = sorted(rows)
    settings = {
        "DJANGO_SETTINGS_MODULE": "benchmarks.sites.several_settings",
        "BENCHMARK_ALIASES": " ".join(map(alias_for, sizes)),
    }
    with servers.database("postgresql", SERVER) as address:
        found = servers.apart(measure_sizes, address, sizes, rounds, **settings)
    show(found)
    return Outcome(is_right=True, figures=found)


if __name__ == "__main__":
    main(measure, "psycopg")
