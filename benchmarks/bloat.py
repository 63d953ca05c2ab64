"""How large a table becomes in which records come and go, and what autovacuum makes of it.

Each cycle claims and completes many keys as requests do, by the package's own statements, and
cleans up behind them, as an hourly clean-up would; ten times as many records live all the time. One
table has PostgreSQL's settings, and the other those that the documentation advises.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from benchmarks.tables import fill, make_original

AS_IT_IS, ADVISED = ALIASES = ("as_it_is", "advised")
# The last: autovacuum locks everybody out to cut off an empty end, and a claim does not wait.
ADVICE = "autovacuum_vacuum_scale_factor = 0.02, vacuum_truncate = off"
#: Records that live all the time, in cycles' worth.
LIVE = 10
BODY_BYTES = 500
LEASE = timedelta(seconds=1)
#: What autovacuum looks at comes from the sessions' own counts, which they tell now and then.
LOOK = """
    SELECT pg_table_size(relid), pg_indexes_size(relid), n_dead_tup, autovacuum_count,
        n_tup_hot_upd, n_tup_upd
    FROM pg_stat_user_tables WHERE relid = %s::regclass
"""
NAMES = ("table_bytes", "index_bytes", "dead", "autovacuums", "heap_only", "updates")


def _make(alias: str, keys: int) -> int:
    """Claim and complete so many, which expire soon; how many claims were refused."""
    from django.db import transaction

    from django_idempotency.exceptions import InProgressError
    from django_idempotency.http.keys import record_id
    from django_idempotency.policy import Policy
    from django_idempotency.protocol.claims import Claim
    from django_idempotency.protocol.waiting import obtain
    from django_idempotency.storage.records import Store
    from django_idempotency.storage.values import Intent, StoredResponse

    # As in life, completion comes before the lease is over, and need not change when it expires.
    store, policy = Store(alias), Policy(lease=LEASE, retention=timedelta(milliseconds=1))
    response = StoredResponse(201, [("Content-Type", "application/json")], bytes(BODY_BYTES))
    refused = 0
    for number in range(keys):
        scope, key = f"user:{number % 5000}", str(uuid.uuid4())
        intent = Intent(record_id(scope, key), scope, key, bytes(32), "POST", "/orders/")
        try:
            claim = obtain(store, intent, policy)
        except InProgressError:
            refused += 1
            continue
        if not isinstance(claim, Claim):
            raise TypeError(claim)
        with transaction.atomic(using=alias):
            claim.lock()
            claim.complete(response)
    return refused


def _execute(alias: str, text: str, *params: Any) -> tuple[Any, ...]:
    from django.db import connections

    with connections[alias].cursor() as cursor:
        cursor.execute(text, params)
        return tuple(cursor.fetchone()) if cursor.description else ()


def _cycle(alias: str, keys: int) -> dict[str, float]:
    """What it leaves behind."""
    from django_idempotency.maintenance.cleanup import Sweep, clean_up
    from django_idempotency.models import IdempotencyRecord
    from django_idempotency.storage.upkeep import Upkeep

    began = time.perf_counter()
    refused = _make(alias, keys)
    made = time.perf_counter()
    time.sleep(1.5 * LEASE.total_seconds())
    cleaning = time.perf_counter()
    deleted = clean_up(Upkeep(alias), Sweep()).deleted
    cleaned = time.perf_counter()
    _execute(alias, "SELECT pg_stat_force_next_flush()")
    row = _execute(alias, LOOK, IdempotencyRecord._meta.db_table)
    times = {
        "key_ms": (made - began) / keys * 1000,
        "clean_up_rate": deleted / (cleaned - cleaning),
        "refused": refused,
    }
    return dict(zip(NAMES, map(float, row), strict=True)) | times


def measure(cycles: int, keys: int) -> dict[str, list[dict[str, float]]]:
    """After each cycle, for either table; they take turns."""
    from benchmarks.sites.prepare import prepare
    from django_idempotency.models import IdempotencyRecord

    prepare()
    _execute(ADVISED, f"ALTER TABLE {IdempotencyRecord._meta.db_table} SET ({ADVICE})")
    for alias in ALIASES:
        fill(alias, make_original(alias), LIVE * keys, 0)
        # The size of a table does not depend on flushes, and its time is not asked.
        _execute(alias, "SET synchronous_commit = off")
    found: dict[str, list[dict[str, float]]] = {alias: [] for alias in ALIASES}
    for _ in range(cycles):
        for alias in ALIASES:
            found[alias].append(_cycle(alias, keys))
    return found


def show(found: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """A line for each cycle."""
    print(f"advised: {ADVICE}")
    heads = "cycle   table MB  index MB       dead  autovacuums  heap-only  ms a key  cleaned up/s"
    heads += "  refused"
    for alias, cycles in found.items():
        print(f"{alias}\n{heads}")
        for number, its in enumerate(cycles, 1):
            sizes = f"{its['table_bytes'] / 1e6:10.1f} {its['index_bytes'] / 1e6:9.1f}"
            rows = f"{its['dead']:10,.0f} {its['autovacuums']:12.0f}"
            share = its["heap_only"] / its["updates"] if its["updates"] else 0.0
            times = f"{share:10.0%} {its['key_ms']:9.2f} {its['clean_up_rate']:13,.0f}"
            print(f"{number:5} {sizes} {rows} {times} {its['refused']:8}")
