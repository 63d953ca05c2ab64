"""What a request costs the database itself: its log, its flushes, its commits, its round trips.

The database's own counters are asked, before and after. What happens beside the request can only
add to them, so the least of several counts is the request's; nothing here depends on time.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from django_idempotency.storage.upkeep import Upkeep
from tests.app.models import Order
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Send = Callable[[], object]

_TIMES = 5
#: Measured: 1,200 with the test view's answer, of which 200 are the view's own row.
FRESH_LOG_BYTES = 1800
#: Beyond the bare view's: claim, heartbeat and completion; MariaDB is asked for the key first, and
#: PostgreSQL completes and commits at once.
ROUND_TRIPS = {"postgresql": 2, "mysql": 4}
needs_postgresql = pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL tells"
)
needs_server = pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite is no server")


def _number(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def log_bytes() -> int:
    """Where the log ends, whether it is flushed or not."""
    return _number("SELECT pg_current_wal_insert_lsn() - '0/0'")


def writing_transactions() -> int:
    """How many transactions there have been that wrote, by the numbers given out."""
    return _number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")


def flushes() -> int:
    """How often a server process waited until the log was on the disk."""
    if _number("SHOW server_version_num") < 180000:
        pytest.skip("pg_stat_io counts them from PostgreSQL 18 on")
    _number("SELECT COUNT(pg_stat_force_next_flush()::text)")
    return _number(
        "SELECT SUM(fsyncs) FROM pg_stat_io"
        " WHERE object = 'wal' AND backend_type = 'client backend'"
    )


def least(counter: Callable[[], int], send: Send) -> int:
    """What one request adds to a counter, without what other requests and full pages add."""
    found = []
    for _ in range(_TIMES):
        before = counter()
        send()
        found.append(counter() - before)
    return min(found)


@pytest.fixture
def bare(post: Post) -> Send:
    """The view without protection."""
    return lambda: post("/bare/")


@pytest.fixture
def fresh(post: Post) -> Send:
    """A new key each time."""
    numbers = iter(range(10**6))
    return lambda: post("/function/", f"a-fresh-key-{next(numbers):08}")


@pytest.fixture
def replay(post: Post, key: str) -> Send:
    """A key that has its answer."""
    post("/function/", key)
    return lambda: post("/function/", key)


@pytest.fixture
def conflict(replay: Send) -> Send:
    """A key in progress, whose claim is never old enough to be taken over."""
    answer = ("response_status", "response_headers", "response_body", "completed_at")
    soon = UtcNow() + timedelta(hours=1)
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, claimed_at=soon, **dict.fromkeys(answer)
    )
    return replay


@needs_postgresql
def test_fresh_request_logs_little_more_than_its_record(fresh: Send, bare: Send) -> None:
    """The claim, the lock, and the answer, in a table without a second index to update."""
    assert least(log_bytes, bare) < least(log_bytes, fresh) < FRESH_LOG_BYTES


@needs_postgresql
def test_claim_adds_a_commit(fresh: Send, bare: Send) -> None:
    """The claim commits by itself."""
    assert least(writing_transactions, bare) == 1
    assert least(writing_transactions, fresh) == 2


@needs_postgresql
def test_claim_adds_no_flush(fresh: Send, bare: Send) -> None:
    """Only the view's COMMIT waits for the disk."""
    assert least(flushes, fresh) == least(flushes, bare) == 1


@needs_postgresql
@pytest.mark.parametrize("kind", ["replay", "conflict"])
def test_answer_without_the_view_writes_nothing(kind: str, request: pytest.FixtureRequest) -> None:
    """Not even to the log."""
    send = request.getfixturevalue(kind)
    orders = Order.objects.count()
    assert least(log_bytes, send) == least(writing_transactions, send) == 0
    assert Order.objects.count() == orders


@needs_postgresql
def test_clean_up_waits_for_no_flush(fresh: Send) -> None:
    """Rows that a crash brings back have expired; what a person deletes is on the disk."""
    for _ in range(2 * _TIMES):
        fresh()
    store, records = Upkeep("default"), iter(IdempotencyRecord.objects.order_by("pk"))
    IdempotencyRecord.objects.update(expires_at=UtcNow() - timedelta(hours=1))
    until = store.moment(timedelta())
    low = store.dialect.beginning
    assert least(flushes, lambda: store.delete(next(records).pk)) == 1
    assert least(flushes, lambda: store.purge(low, until, 1, parts=False)) == 0
    assert not IdempotencyRecord.objects.exists()


@contextmanager
def _traced(file: Path) -> Iterator[None]:
    connection.ensure_connection()
    raw = connection.connection.pgconn
    with file.open("wb") as trace:
        raw.trace(trace.fileno())
        try:
            yield
        finally:
            raw.untrace()


def _round_trips_on_postgresql(send: Send, folder: Path) -> int:
    """How often the server said that it waits for the next message, by libpq's own trace."""
    file = folder / "trace"
    with _traced(file):
        send()
    return file.read_bytes().count(b"ReadyForQuery")


def _round_trips_on_mysql(send: Send, folder: Path) -> int:
    def questions() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    before = questions()
    send()
    # Without the question itself.
    return questions() - before - 1


@pytest.fixture
def round_trips(tmp_path: Path) -> Callable[[Send], int]:
    """How many messages of the database a request waits for."""
    counts = {"postgresql": _round_trips_on_postgresql, "mysql": _round_trips_on_mysql}
    return lambda send: counts[connection.vendor](send, tmp_path)


@needs_server
def test_round_trips_stay_in_the_budget(
    bare: Send, fresh: Send, replay: Send, round_trips: Callable[[Send], int]
) -> None:
    """BEGIN and COMMIT count, too."""
    assert round_trips(fresh) <= round_trips(bare) + ROUND_TRIPS[connection.vendor]
    assert round_trips(replay) == 1
