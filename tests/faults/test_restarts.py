"""Kept and pooled connections across a crash of the database: some 503, one order for each key."""

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import connection, connections
from pytest_django import DjangoDbBlocker

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.test_racers import Caller
from tests.support.live import gunicorn
from tests.support.patience import until
from tests.support.servers import DATABASE_VARIABLE, Server

from .own_server import ALIAS, own_server

WORKERS, THREADS = 2, 4
CROWD = WORKERS * THREADS
QUICK = "/exempt/"
# Long enough for the crash to come before its end, on a busy machine too.
SLOW = "/exempt/?act=slow&seconds=6"
ORDERS = Order.objects.using(ALIAS)
RECORDS = IdempotencyRecord.objects.using(ALIAS)

Answer = tuple[int, str]


@pytest.fixture(scope="module")
def server(django_db_blocker: DjangoDbBlocker) -> Iterator[Server]:
    """A server of the test's own."""
    with django_db_blocker.unblock(), own_server() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["kept", "pooled"])
def pooled(request: pytest.FixtureRequest) -> bool:
    """Whether connections come from Django's pool, or belong to threads."""
    if request.param and connection.vendor != "postgresql":
        pytest.skip("Django pools connections of PostgreSQL only")
    return bool(request.param)


@pytest.fixture
def site(
    pooled: bool, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The address of a gunicorn whose connections outlive their requests."""
    monkeypatch.setenv(DATABASE_VARIABLE, server.url)
    monkeypatch.setenv("IDEMPOTENCY_TEST_POOL", "1" if pooled else "")
    monkeypatch.delenv("IDEMPOTENCY_TEST_DATABASE_PORT", raising=False)
    with gunicorn(tmp_path, workers=WORKERS, threads=THREADS) as address:
        yield address
    connections[ALIAS].close()


def order(site: str, path: str, key: str) -> Answer:
    """The status and nonce of one request; 0 where its connection broke."""
    try:
        reply, body, _ = Caller(site).send("POST", path, **{"Idempotency-Key": key})
    except OSError:
        return 0, ""
    return reply.status, json.loads(body)["nonce"] if reply.status == 201 else ""


def at_once(
    pool: ThreadPoolExecutor, site: str, path: str, number: int = CROWD
) -> "dict[str, Future[Answer]]":
    """Futures of the replies to so many requests, by key."""
    keys = [uuid.uuid4().hex for _ in range(number)]
    return {key: pool.submit(order, site, path, key) for key in keys}


def statuses(answers: "dict[str, Future[Answer]]") -> set[int]:
    """The statuses of the replies, when all have come."""
    return {answer.result()[0] for answer in answers.values()}


def until_ordered(site: str, path: str, key: str) -> str:
    """The nonce of the first 201."""

    def ordered() -> str | None:
        status, nonce = order(site, path, key)
        assert status in (201, 409, 503)
        return nonce if status == 201 else None

    return until(ordered, "the key is stuck")


def until_running(number: int) -> None:
    """Return when so many views have begun."""
    until(lambda: effects.count() >= number, "the views did not begin")


def test_crash_of_the_database_costs_retries_only(site: str, pooled: bool, server: Server) -> None:
    """Requests before, during and after the crash have one order each, with their retries."""
    existing = ORDERS.count()
    connections[ALIAS].close()
    with ThreadPoolExecutor(3 * CROWD) as pool:
        warm = at_once(pool, site, QUICK)
        assert statuses(warm) == {201}
        # All of them may reach the same worker. (Without a server, a pool lets its callers wait for
        # half a minute: test_pools.py has that case.)
        running = at_once(pool, site, SLOW, 0 if pooled else THREADS)
        until_running(CROWD + len(running))
        server.crash()
        assert not statuses(running) & {201}
        meanwhile = at_once(pool, site, QUICK, 0 if pooled else CROWD)
        server.start()
        assert statuses(meanwhile) <= {201, 503}
        afterwards = at_once(pool, site, QUICK)
        assert statuses(afterwards) <= {201, 503}
        everything = {QUICK: [*warm, *meanwhile, *afterwards], SLOW: [*running]}
        retries = {
            key: pool.submit(until_ordered, site, path, key)
            for path, keys in everything.items()
            for key in keys
        }
        nonces = {key: retry.result() for key, retry in retries.items()}
    orders = set(ORDERS.values_list("nonce", flat=True))
    assert (
        len(set(nonces.values())) == ORDERS.count() - existing == sum(map(len, everything.values()))
    )
    assert set(nonces.values()) <= orders
    # Only the views that were running at the crash ran in vain.
    assert effects.count() == len(nonces) + len(running)
    assert not RECORDS.exclude(status=Status.COMPLETED).exists()
    assert statuses(running) <= {0, 500, 503}
