"""``wait``: bounded, woken by the owner's lock, without convoys, and never more than a few."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol import waiting
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import in_thread, send
from tests.crash.test_kills import kill, worker
from tests.support.patience import until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PATH = "/function/"


@pytest.mark.parametrize("waiters", [16, 64])
def test_waiters_whose_owner_dies_take_over_once(
    waiters: int, key: str, settings: Settings
) -> None:
    """One of them runs, none is fenced off, and all get that one reply."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=60)
    settings.IDEMPOTENCY_MAX_WAITERS = waiters
    with worker("in-view", key, PATH) as owner, ThreadPoolExecutor(waiters) as pool:
        time.sleep(0.2)
        replies = [in_thread(pool, lambda: send(PATH, key)) for _ in range(waiters)]
        time.sleep(1)
        killed = kill(owner)
        results = [reply.result() for reply in replies]
        waited = time.monotonic() - killed
    assert Order.objects.count() == 1
    assert effects.count() == 2  # one of the owner that died, one of the waiter that took over
    assert {result.status_code for result in results} == {201}
    assert len({result.content for result in results}) == 1
    assert [result.get("Idempotent-Replayed") for result in results].count(None) == 1
    assert IdempotencyRecord.objects.get().attempts == 2
    print(
        f"\n{connection.vendor}: {waiters} waiters answered {waited * 1000:.0f} ms after the kill"
    )


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite wakes nobody: waiters look again")
@pytest.mark.parametrize("dies", [True, False], ids=["dies", "commits"])
def test_waiter_is_woken_by_the_owner_s_lock(
    dies: bool, key: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply comes though the waiter itself would look again only after its wait is over."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=60)
    monkeypatch.setattr(waiting, "_SHORTEST_POLL_SECONDS", 3600)
    monkeypatch.setattr(waiting, "_LONGEST_POLL_SECONDS", 3600)
    with worker("in-view", key, PATH) as owner, ThreadPoolExecutor(1) as pool:
        # A claim that is younger than the grace is not watched.
        time.sleep(0.2)
        reply = in_thread(pool, lambda: send(PATH, key))
        time.sleep(0.5)
        assert not reply.done()
        if dies:
            kill(owner)
        else:
            owner.communicate("\n")
        result = reply.result()
    assert Order.objects.count() == 1
    assert result.status_code == 201
    assert result.get("Idempotent-Replayed") == (None if dies else "true")


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_waiting_for_a_running_owner_is_bounded(
    seconds: float, key: str, settings: Settings
) -> None:
    """The same 409 as without a wait comes while the owner still runs, and not before its time."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=seconds)
    with worker("in-view", key, PATH):
        time.sleep(0.2)
        began = time.monotonic()
        assert send(PATH, key).status_code == 409
        assert time.monotonic() - began >= seconds


@pytest.mark.parametrize("seats", [0, 2])
def test_waiters_over_the_cap_are_refused_at_once(seats: int, key: str, settings: Settings) -> None:
    """The pool of threads is not theirs to fill."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=60)
    settings.IDEMPOTENCY_MAX_WAITERS = seats
    with worker("in-view", key, PATH) as owner, ThreadPoolExecutor(8) as pool:
        time.sleep(0.2)
        replies = [in_thread(pool, lambda: send(PATH, key)) for _ in range(8)]
        until(lambda: sum(reply.done() for reply in replies) == 8 - seats, "too many wait")
        refused = [reply.result().status_code for reply in replies if reply.done()]
        owner.communicate("\n")
        statuses = [reply.result().status_code for reply in replies]
    assert refused == [409] * (8 - seats)
    assert statuses.count(201) == seats
    assert effects.count() == 1


def test_seats_are_given_back(key: str, settings: Settings) -> None:
    """A waiter that got its 409 leaves its place to the next."""
    settings.IDEMPOTENCY_WAIT = timedelta(milliseconds=120)
    settings.IDEMPOTENCY_MAX_WAITERS = 1
    with worker("in-view", key, PATH):
        time.sleep(0.2)
        for _ in range(3):
            began = time.monotonic()
            assert send(PATH, key).status_code == 409
            assert time.monotonic() - began >= 0.12


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_has_all_its_seats() -> None:
    """Not even a thread that was taking a seat in the parent can keep it from them."""
    waiters = waiting._waiters
    with waiters.one_more(1), waiters._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if waiters._lock.acquire(timeout=5) and waiters._waiting == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
