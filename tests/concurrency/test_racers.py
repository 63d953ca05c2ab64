"""Many callers, one key, at the same moment: the effect happens once."""

import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpx
import pytest
from django.db import connection, connections
from django.test import Client

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.live import gunicorn

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

RACERS = 16
ROUNDS = 50


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
    """16 connections, 50 rounds, in one process."""
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


def _send(client: httpx.Client, key: str) -> tuple[httpx.Response, float]:
    began = time.perf_counter()
    response = client.post("/mixin/?act=slow&seconds=0.2", headers={"Idempotency-Key": key})
    return response, time.perf_counter() - began


@pytest.mark.timeout(300)
def test_requests_with_one_key_have_one_effect(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """16 requests, 50 rounds, gunicorn 4 x 8; every other reply is a 409 at once, or the replay."""
    statuses: Counter[int] = Counter()
    refused: list[float] = []
    with gunicorn(tmp_path) as address, httpx.Client(base_url=address, timeout=30) as client:
        race(lambda: client.get("/mixin/?act=no_content"))
        before = effects.count()
        for _ in range(ROUNDS):
            key = uuid.uuid4().hex
            replies = race(lambda key=key: _send(client, key))
            statuses.update(response.status_code for response, _ in replies)
            for response, seconds in replies:
                if response.status_code == 409:
                    assert response.headers["Retry-After"] == "1"
                    refused.append(seconds)
            bodies = {response.content for response, _ in replies if response.status_code == 201}
            assert len(bodies) == 1, statuses
            retried, _ = _send(client, key)
            assert retried.content in bodies
            assert retried.headers["Idempotent-Replayed"] == "true"
    assert effects.count() - before == ROUNDS
    assert IdempotencyRecord.objects.filter(status=Status.COMPLETED).count() == ROUNDS
    assert set(statuses) <= {201, 409}
    slowest = max(refused, default=0.0)
    print(f"\n{connection.vendor}: {dict(statuses)}, slowest 409 after {slowest * 1000:.0f} ms")
    if connection.vendor == "postgresql":
        # Nothing on the way to a 409 waits; SQLite's readers may, for its one write lock.
        assert sorted(refused)[len(refused) // 2] < 0.1
