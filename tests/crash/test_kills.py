"""Workers die or freeze at the worst moments: nothing lost, nothing twice, no stuck key."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpResponse
from django.test import Client

from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.protocol import rules
from django_idempotency.storage.dialects import PostgreSQL
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import Post
from tests.support.patience import HANG_SECONDS, until

pytestmark = [
    pytest.mark.races,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]

DOORS = served("/function/", "/mixin/")


@contextmanager
def worker(point: str, key: str, path: str = "/function/") -> Iterator[subprocess.Popen[str]]:
    """A process that has stopped at ``point`` of a request with ``key``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.crash.worker", point, key, path],
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    try:
        assert process.stdout.readline().strip() == "stopped"
        yield process
    finally:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen[str]) -> float:
    """``kill -9``; returns the moment."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    return time.monotonic()


def until_it_runs(send: Post, path: str, key: str) -> HttpResponse:
    """The first reply that is no 409; a key that only its lease frees counts as stuck."""

    def ran() -> HttpResponse | None:
        response = send(path, key)
        return None if response.status_code == 409 else response

    return until(ran, "the key is stuck")


@pytest.fixture
def send() -> Post:
    """The same request as the worker's."""

    def send(path: str, key: str | None = None, **kwargs: object) -> HttpResponse:
        client = Client(raise_request_exception=False)
        sent: HttpResponse = client.post(path, headers={"Idempotency-Key": key or ""})  # type: ignore[assignment]
        return sent

    return send


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("point", ["after-claim", "in-view", "before-commit"])
def test_killed_before_commit_frees_the_key_at_once(
    point: str, door: str, key: str, send: Post
) -> None:
    """The retry need not wait for the lease of a minute to be over, and there is one order."""
    with worker(point, key, door) as process:
        killed = kill(process)
        response = until_it_runs(send, door, key)
        waited = time.monotonic() - killed
    assert Order.objects.count() == 1
    assert response.status_code == 201
    assert "Idempotent-Replayed" not in response
    assert IdempotencyRecord.objects.get().attempts == 2
    print(f"\n{connection.vendor}, killed {point}: ran again after {waited * 1000:.0f} ms")


@pytest.mark.skipif(
    connection.vendor != "postgresql", reason="only PostgreSQL tells that an owner had begun"
)
def test_killed_in_the_view_needs_no_grace(
    key: str, send: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL remembers that the owner had locked the row: its age does not matter."""
    monkeypatch.setattr(PostgreSQL, "grace", 3600)
    monkeypatch.setattr(rules, "_LONGEST_GRACE_SECONDS", 3600)
    with worker("in-view", key) as process:
        assert send("/function/", key).status_code == 409
        kill(process)
        assert until_it_runs(send, "/function/", key).status_code == 201
    assert Order.objects.count() == 1


@pytest.mark.parametrize("door", DOORS)
def test_killed_after_commit_replays(door: str, key: str, send: Post) -> None:
    """The effect is there, and so is the reply that was never sent."""
    with worker("after-commit", key, door) as process:
        kill(process)
    response = send(door, key)
    assert Order.objects.count() == effects.count() == 1
    assert response.status_code == 201
    assert response["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("point", ["in-view", "before-commit"])
def test_duplicate_of_a_frozen_worker_is_answered_at_once(point: str, key: str, send: Post) -> None:
    """SIGSTOP between the completing UPDATE and COMMIT: 409, none hangs; it completes later."""
    with worker(point, key) as process:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        statuses = [send("/function/", key).status_code for _ in range(5)]
        assert time.monotonic() - began < HANG_SECONDS
        process.send_signal(signal.SIGCONT)
        assert process.communicate("\n")[0].strip() == "201"
    assert statuses == [409] * 5
    assert send("/function/", key)["Idempotent-Replayed"] == "true"
    assert Order.objects.count() == effects.count() == 1


@pytest.fixture
def in_flight(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The view's COMMIT raises: Django loses a connection whose transaction is still open."""
    lost: list[Any] = []
    original = connection.commit

    def lose() -> NoReturn:
        lost.append(connection.connection)
        connection.connection = None
        raise OperationalError("the network is gone")

    def cut() -> None:
        if not Order.objects.exists():
            return original()
        lose()

    def cut_short(self: PostgreSQL, connection: Any, text: str, params: Any) -> NoReturn:
        self.execute_several(connection, text, params)
        lose()

    monkeypatch.setattr(connection, "commit", cut)
    monkeypatch.setattr(PostgreSQL, "commit_with", cut_short)
    yield lost
    for raw in lost:
        with suppress(Exception):  # PyMySQL's minds being closed twice
            raw.close()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no connection to lose")
@pytest.mark.parametrize("lands", [True, False])
def test_commit_cut_in_flight_is_unknown_until_the_record_says(
    lands: bool, key: str, post: Post, in_flight: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late release leaves a locked row alone: 503, and the retry finds what became of it."""
    first = post("/function/", key)
    monkeypatch.undo()
    assert first.status_code == 503
    assert first["Retry-After"] == "1"
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS
    assert post("/function/", key).status_code == 409
    if lands:
        in_flight[0].commit()
    in_flight[0].close()
    again = until_it_runs(post, "/function/", key)
    assert again.status_code == 201
    assert again.get("Idempotent-Replayed") == ("true" if lands else None)
    assert Order.objects.count() == 1
    assert effects.count() == (1 if lands else 2)


def test_reply_is_never_read_from_a_transaction_that_is_still_open(
    key: str, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COMMIT was not sent, and the connection lives on inside the transaction: no 201."""
    failed: list[str] = []
    set_autocommit = connection._set_autocommit

    def cut() -> None:
        failed.append("commit")
        raise InterfaceError("COMMIT was not sent")

    def stuck(autocommit: bool) -> None:
        if autocommit and failed == ["commit"]:
            failed.append("autocommit")
            raise OperationalError("nor can autocommit be had")
        set_autocommit(autocommit)

    monkeypatch.setattr(connection, "_commit", cut)
    monkeypatch.setattr(PostgreSQL, "fence", "")
    monkeypatch.setattr(connection, "_set_autocommit", stuck)
    first = post("/function/", key)
    monkeypatch.undo()
    connection.close()
    assert failed[:2] == ["commit", "autocommit"]
    assert Order.objects.count() == 0
    assert first.status_code in (500, 503)
    assert until_it_runs(post, "/function/", key).status_code == 201
    assert Order.objects.count() == 1
