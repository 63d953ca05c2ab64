"""IDEMPOTENCY_CACHE_INFLIGHT: duplicates of a running request get 409 from the cache."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord
from django_idempotency.replay_cache import replays as replay_cache
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import in_thread, send
from tests.support.patience import HANG_SECONDS
from tests.support.servers import Valkey

from .conftest import use

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOOR = "/function/"
#: How long a fence counts.
FENCE_SECONDS = replay_cache._FENCE_SECONDS


@pytest.fixture
def fenced(
    settings: Settings, cached: None, cached_in_processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache answers duplicates, here and in the processes that are started."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    monkeypatch.setenv("IDEMPOTENCY_TEST_INFLIGHT", "1")


@contextmanager
def owner(point: str, key: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that has stopped at ``point`` of a request with ``key``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.worker", point, key, DOOR],
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        assert process.stdout.readline().strip() == "stopped"
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(key: str) -> tuple[Any, int]:
    """The reply, and how many statements it took."""
    with CaptureQueriesContext(connection) as captured:
        reply = send(DOOR, key)
    return reply, len(captured)


def test_duplicates_of_another_process_s_request_ask_no_database(fenced: None, key: str) -> None:
    """They get 409 and Retry-After while the owner runs, and a replay afterwards. The fence lasts a
    second; the first request that asks the database after that puts up another.
    """
    with owner("in-view", key) as process:
        began = time.monotonic()
        refused = [ask(key) for _ in range(100)]
        fences = 2 + (time.monotonic() - began) / FENCE_SECONDS
        assert {reply.status_code for reply, _ in refused} == {409}
        assert {reply["Retry-After"] for reply, _ in refused} == {"1"}
        assert sum(count > 0 for _, count in refused) <= fences
        time.sleep(FENCE_SECONDS)
        refused = [ask(key) for _ in range(10)]
        assert {reply.status_code for reply, _ in refused} == {409}
        counts = [count for _, count in refused]
        assert counts[0] > 0
        assert 0 in counts
        assert process.communicate("\n")[0].strip() == "201"
    reply, count = ask(key)
    assert reply["Idempotent-Replayed"] == "true"
    assert count == 0
    assert Order.objects.count() == effects.count() == 1


def test_other_request_with_the_key_is_still_refused(fenced: None, key: str) -> None:
    """It gets 422 from the database: a fence counts for the request that runs."""
    with owner("in-view", key):
        assert send(f"{DOOR}?other=1", key).status_code == 422


@pytest.mark.parametrize("point", ["after-claim", "in-view", "before-commit"])
def test_key_of_a_killed_owner_is_free_a_second_later(point: str, fenced: None, key: str) -> None:
    """No duplicate makes the fence last longer, however many there are."""
    with owner(point, key) as process:
        assert ask(key)[0].status_code == 409
        process.kill()
        process.wait()
        killed = time.monotonic()
        statuses: list[int] = []
        while not statuses or statuses[-1] == 409:
            assert time.monotonic() - killed < HANG_SECONDS
            statuses.append(send(DOOR, key).status_code)
            time.sleep(0.01)
        waited = time.monotonic() - killed
    print(
        f"\n{connection.vendor}, killed {point}: free after {waited:.2f} s, {len(statuses)} tries"
    )
    assert statuses[-1] == 201
    assert Order.objects.count() == 1


def test_duplicate_that_may_wait_waits(fenced: None, key: str, settings: Settings) -> None:
    """The fence does not refuse it: it waits, and gets the first reply."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=20)
    with owner("in-view", key) as process, ThreadPoolExecutor(1) as pool:
        waiting = in_thread(pool, lambda: send(DOOR, key))
        time.sleep(0.5)
        assert not waiting.done()
        assert process.communicate("\n")[0].strip() == "201"
        reply = waiting.result(timeout=20)
    assert reply.status_code == 201
    assert reply["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == effects.count() == 1


@pytest.mark.parametrize("loss", ["flushed", "frozen", "crashed"])
def test_lost_redis_means_that_the_database_answers(
    loss: str,
    valkey: Valkey,
    settings: Settings,
    key: str,
    monkeypatch: pytest.MonkeyPatch,
    cached_in_processes: None,
) -> None:
    """Duplicates get the same 409 while the first runs, and the same reply afterwards."""
    settings.IDEMPOTENCY_CACHE_INFLIGHT = True
    monkeypatch.setenv("IDEMPOTENCY_TEST_INFLIGHT", "1")
    monkeypatch.setenv(Valkey.variable, valkey.url)
    use(settings, valkey.url)
    with owner("in-view", key) as process:
        assert ask(key)[1] == 0
        with lost(valkey, loss):
            reply, count = ask(key)
            assert reply.status_code == 409
            assert count > 0
            assert process.communicate("\n")[0].strip() == "201"
            assert send(DOOR, key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == effects.count() == 1
    assert IdempotencyRecord.objects.get().attempts == 1


@contextmanager
def lost(valkey: Valkey, loss: str) -> Iterator[None]:
    """The content of Redis is gone, or Redis itself is."""
    if loss == "frozen":
        with valkey.frozen():
            yield
    elif loss == "crashed":
        valkey.crash()
        try:
            yield
        finally:
            valkey.start()
    else:
        valkey.ask("FLUSHALL")
        yield
