"""Django's connection pool for PostgreSQL: too small, full of waiters, with dead connections."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from django.db import connection, connections
from psycopg_pool import ConnectionPool, PoolTimeout
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects, views
from tests.app.models import Order
from tests.concurrency.owners import in_thread

from .connecting import BEHIND_PGBOUNCER, asked, connected
from .crowd import ask, together, until_answered

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="Django pools connections of PostgreSQL only"
    ),
    pytest.mark.skipif(BEHIND_PGBOUNCER, reason="PgBouncer's sessions are not ours to cut"),
]

SIZE = 4
TIMEOUT_SECONDS = 1.5


@pytest.fixture
def size() -> int:
    """How many connections there are."""
    return SIZE


@pytest.fixture
def pool(size: int) -> Iterator[Any]:
    """A pool whose callers do not wait for long."""
    options = {"min_size": size, "max_size": size, "timeout": TIMEOUT_SECONDS}
    with connected(options={"pool": options}, CONN_MAX_AGE=0):
        connection.ensure_connection()
        yield connection.pool


@pytest.fixture
def roomy() -> Iterator[None]:
    """A pool of four connections, whose callers wait for them."""
    options = {"min_size": SIZE, "max_size": SIZE, "timeout": 30}
    with connected(options={"pool": options}, CONN_MAX_AGE=0):
        yield


def is_settled(keys: int) -> bool:
    """Whether each key has one effect and a completed record."""
    completed = IdempotencyRecord.objects.filter(status=Status.COMPLETED).count()
    return Order.objects.count() == completed == effects.count() == keys


@pytest.mark.usefixtures("roomy")
def test_racers_for_few_connections_have_one_effect_for_each_key() -> None:
    """16 threads race for eight keys with four connections."""
    connection.close()
    keys = [uuid.uuid4().hex for _ in range(8)]
    replies = together("/function/", keys * 2)
    for key in keys:
        until_answered("/function/", key)
    assert is_settled(8)
    assert {reply.status_code for reply in replies} <= {201, 409}


@pytest.mark.usefixtures("roomy")
def test_waiters_that_fill_the_pool_do_not_stop_their_owner(key: str, settings: Settings) -> None:
    """An owner keeps the connection of its claim, so it never queues behind its waiters."""
    connection.close()
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=20)
    settings.IDEMPOTENCY_MAX_WAITERS = 16
    replies = together("/function/?act=slow", [key] * (3 * SIZE))
    assert is_settled(1)
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.content for reply in replies}) == 1


@pytest.mark.usefixtures("roomy")
def test_connections_are_given_back_as_they_were(key: str, settings: Settings) -> None:
    """After claims, replays, probes and waits, no session has a setting of the package's."""
    connection.close()
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=1)
    together("/function/?act=slow", [key] * 2 * SIZE)
    together("/function/?act=crash", [uuid.uuid4().hex for _ in range(SIZE)])
    with ThreadPoolExecutor(SIZE) as pool:
        done = Event()

        def look() -> list[str]:
            names = ("lock_timeout", "synchronous_commit", "transaction_isolation")
            found = [asked("default", f"SHOW {name}") for name in names]
            looked.append(found)
            assert done.wait(20)
            return found

        looked: list[list[str]] = []
        futures = [in_thread(pool, look) for _ in range(SIZE)]
        while len(looked) < SIZE and not any(future.done() for future in futures):
            time.sleep(0.01)
        done.set()
        assert [future.result() for future in futures] == [["0", "on", "read committed"]] * SIZE


def test_pool_without_a_free_connection_runs_nothing(pool: Any, key: str) -> None:
    """The reply is a 503, and requests succeed when connections are free again."""
    connection.close()
    taken = [pool.getconn() for _ in range(SIZE)]
    reply = ask("/exempt/", key)
    assert effects.count() == 0
    assert reply.status_code == 503
    assert reply["Retry-After"] == "1"
    for raw in taken:
        pool.putconn(raw)
    assert until_answered("/exempt/", key).status_code == 201
    assert is_settled(1)


@pytest.mark.usefixtures("roomy")
def test_dead_connections_in_the_pool_cost_one_reply_each() -> None:
    """A claim meets each of them before any view runs."""
    together("/function/", [uuid.uuid4().hex for _ in range(SIZE)])
    Order.objects.all().delete()
    IdempotencyRecord.objects.all().delete()
    effects.log().unlink()
    connection.close()
    with connections["other"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [connection.settings_dict["NAME"]],
        )
    keys = [uuid.uuid4().hex for _ in range(2 * SIZE)]
    statuses = []
    for key in keys:
        statuses.append(ask("/exempt/", key).status_code)
        connection.close_if_unusable_or_obsolete()
    assert effects.count() == statuses.count(201)
    assert set(statuses) == {201, 503}
    assert statuses.count(503) <= SIZE
    for key in keys:
        until_answered("/exempt/", key)
    assert is_settled(2 * SIZE)


def allow(answer: str) -> None:
    """Allow or refuse new connections to the default database."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connections["other"].cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {answer}")


def renew() -> None:
    """Begin with a new pool, which has not waited for the server yet."""
    connection.close()
    connection.close_pool()
    connection.ensure_connection()


@pytest.fixture
def locked_out() -> Iterator[Any]:
    """Called in a view: its session ends, and new ones are refused."""

    def lock_out() -> None:
        pid = asked("default", "SELECT pg_backend_pid()")
        allow("false")
        asked("other", f"SELECT pg_terminate_backend({pid})")

    yield lock_out
    allow("true")


@pytest.mark.parametrize("size", [1])
def test_view_that_loses_the_database_waits_for_the_pool_once_more_than_django(
    pool: Any, locked_out: Any, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django asks the pool for a connection to end the transaction, the layer to free the key."""

    def lose(request: Any, nonce: str) -> Any:
        locked_out()
        return views.order(request, nonce)

    getconn, in_vain = ConnectionPool.getconn, []

    def counting(*args: Any, **kwargs: Any) -> Any:
        try:
            return getconn(*args, **kwargs)
        except PoolTimeout:
            in_vain.append("waited")
            raise

    def waited(path: str, key: str | None) -> int:
        in_vain.clear()
        assert ask(path, key).status_code in (500, 503)
        return len(in_vain)

    monkeypatch.setattr(ConnectionPool, "getconn", counting)
    monkeypatch.setitem(views.ACTS, "order", lose)
    bare = waited("/bare/", None)
    allow("true")
    renew()
    ours = waited("/function/", key)
    allow("true")
    renew()
    monkeypatch.undo()
    assert until_answered("/function/", key)
    assert (Order.objects.count(), effects.count()) == (1, 3)
    assert (bare, ours) == (1, 2)
