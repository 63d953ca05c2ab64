"""Many callers, one key, at the same moment: the effect happens once."""

import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections
from django.test import Client
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.support.live import gunicorn

pytestmark = [
    pytest.mark.races,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

RACERS = 16
ROUNDS = 20
PATH = "/exempt/?act=slow&seconds=0.2"


def race(run: Callable[[], Any], racers: int = RACERS) -> list[Any]:
    """What each of ``racers`` threads got that began at the same moment."""
    barrier = Barrier(racers)

    def racer() -> Any:
        barrier.wait()
        try:
            return run()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(racers) as pool:
        return [future.result() for future in [pool.submit(racer) for _ in range(racers)]]


def test_connections_with_one_key_have_one_effect() -> None:
    """16 connections, 20 rounds, in one process."""
    for _ in range(ROUNDS):
        key = uuid.uuid4().hex

        def send(key: str = key) -> Any:
            return Client().post("/function/", headers={"Idempotency-Key": key})

        replies = race(send)
        assert {reply.status_code for reply in replies} <= {201, 409}
        assert len({reply.content for reply in replies if reply.status_code == 201}) == 1
        marks = [r.get("Idempotent-Replayed") for r in replies if r.status_code == 201]
        assert marks.count(None) == 1
    assert Order.objects.count() == effects.count() == ROUNDS


def test_duplicates_that_may_wait_get_the_first_reply(settings: Settings) -> None:
    """``wait``: no request is refused, and the view runs once."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=20)
    settings.IDEMPOTENCY_MAX_WAITERS = 5
    key = uuid.uuid4().hex

    def send() -> Any:
        return Client().post("/function/?act=slow", headers={"Idempotency-Key": key})

    replies = race(send, racers=6)
    assert Order.objects.count() == effects.count() == 1
    assert {reply.status_code for reply in replies} == {201}
    assert len({reply.content for reply in replies}) == 1


class Caller:
    """One caller with its own connection, opened before the race."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
        self._connection.connect()

    def send(self, method: str, path: str, **headers: str) -> tuple[HTTPResponse, bytes, float]:
        """The reply, its body, and the seconds it took."""
        began = time.perf_counter()
        self._connection.request(method, path, headers=headers)
        response = self._connection.getresponse()
        return response, response.read(), time.perf_counter() - began

    def order(self, key: str) -> tuple[HTTPResponse, bytes, float]:
        """One order with this key."""
        return self.send("POST", PATH, **{"Idempotency-Key": key})


def _percentiles(seconds: list[float]) -> str:
    p50, p95, p100 = (sorted(seconds)[int((len(seconds) - 1) * part)] for part in (0.5, 0.95, 1))
    return f"p50 {p50 * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, max {p100 * 1000:.0f} ms"


def _bare(address: str) -> list[float]:
    """What a race of requests that do nothing takes here, in seconds."""
    seconds: list[float] = []
    for _ in range(10):
        callers = [Caller(address) for _ in range(RACERS)]

        def get(callers: list[Caller] = callers) -> Any:
            return callers.pop().send("GET", "/nothing/")

        seconds += [reply[2] for reply in race(get)]
    return seconds


@pytest.mark.timeout(300)
def test_requests_with_one_key_have_one_effect(tmp_path: Path) -> None:
    """16 requests, 20 rounds, gunicorn 4 x 8; every other reply is a 409 at once, or the replay."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    with gunicorn(tmp_path) as address:
        _, bare = _bare(address), _bare(address)
        for _ in range(ROUNDS):
            key = uuid.uuid4().hex
            callers = [Caller(address) for _ in range(RACERS)]

            def order(key: str = key, callers: list[Caller] = callers) -> Any:
                return callers.pop().order(key)

            replies = race(order)
            statuses.update(response.status for response, _, _ in replies)
            bodies = {body for response, body, _ in replies if response.status == 201}
            assert len(bodies) == 1, statuses
            late = [reply for reply in replies if reply[0].status == 409]
            assert {response.headers["Retry-After"] for response, _, _ in late} <= {"1"}
            refused += [seconds for _, _, seconds in late]
            response, body, _ = Caller(address).order(key)
            assert body in bodies
            assert response.headers["Idempotent-Replayed"] == "true"
    assert effects.count() == Order.objects.count() == ROUNDS
    assert IdempotencyRecord.objects.filter(status=Status.COMPLETED).count() == ROUNDS
    assert set(statuses) <= {201, 409}
    print(
        f"\n{connection.vendor}: {dict(statuses)}; a 409 took {_percentiles(refused)},"
        f" an empty GET in a race as large {_percentiles(bare)}"
    )
