"""What is counted in memory, and when it becomes rows; never in a request, and never in a test."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.request import Request, urlopen

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from django_idempotency.models import IdempotencyCount
from django_idempotency.monitoring import counts
from tests.conftest import Post
from tests.support.live import gunicorn, uvicorn
from tests.support.patience import until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    """Each test counts from nothing."""
    counts._tally.forget()
    yield
    counts._tally.forget()


def written(using: str = "default") -> dict[str, int]:
    """What the rows add up to."""
    rows = IdempotencyCount.objects.using(using).values_list("event")
    return dict(rows.annotate(Sum("count")))


def finish_request() -> None:
    """What a server does after the last byte, but for closing the test's connections."""
    counts._after_request(sender=WSGIHandler)


def test_counts_become_rows_of_this_minute() -> None:
    """One for each event, in the database of its records."""
    before = timezone.now().replace(second=0, microsecond=0)
    for event in ("claimed", "claimed", "replayed"):
        counts.count(event, "default")
    counts.count("claimed", "other")
    counts.flush()
    assert written() == {"claimed": 2, "replayed": 1}
    assert written("other") == {"claimed": 1}
    minutes = set(IdempotencyCount.objects.values_list("minute", flat=True))
    assert all(before <= minute <= timezone.now() for minute in minutes)
    assert {(minute.second, minute.microsecond) for minute in minutes} == {(0, 0)}


def test_what_is_written_is_not_written_again() -> None:
    """Readers add up what each flush inserted."""
    counts.count("claimed", "default")
    counts.flush()
    counts.flush()
    counts.count("claimed", "default")
    counts.flush()
    assert sorted(IdempotencyCount.objects.values_list("count", flat=True)) == [1, 1]


def test_counting_costs_no_query_and_hardly_any_work() -> None:
    """It is an addition: a few calls of functions, however much was counted before."""
    calls: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        for _ in range(10_000):
            counts.count("replayed", "default")
        sys.setprofile(lambda frame, event, argument: calls.append(event))
        try:
            counts.count("replayed", "default")
        finally:
            sys.setprofile(None)
    assert not captured
    assert calls.count("call") <= 10


def test_server_s_request_writes_at_most_every_ten_seconds() -> None:
    """The first one at once, so that a quiet site shows what happens there."""
    for now, rows in ((1000.0, 1), (1009.9, 1), (1010.0, 2)):
        counts.count("claimed", "default")
        with mock.patch.object(counts.time, "monotonic", return_value=now):
            finish_request()
        assert IdempotencyCount.objects.count() == rows
    assert written() == {"claimed": 3}


def test_request_without_anything_to_write_queries_nothing() -> None:
    """Most requests of most projects."""
    with CaptureQueriesContext(connection) as captured:
        finish_request()
    assert not captured


def test_test_client_writes_nothing(key: str, post: Post) -> None:
    """A project's assertNumQueries counts its own queries; the client names no handler."""
    senders: list[Any] = []
    request_finished.connect(lambda sender, **_: senders.append(sender), weak=False)
    receivers = list(request_finished.receivers)
    try:
        post("/function/", key)
        post("/function/", key)
    finally:
        request_finished.receivers = receivers[:-1]
        request_finished.sender_receivers_cache.clear()
    assert senders == [None, None]
    assert not IdempotencyCount.objects.exists()
    counts.flush()
    assert written() == {"claimed": 1, "completed": 1, "replayed": 1}


def test_open_transaction_is_left_alone() -> None:
    """The counts stay for later."""
    counts.count("claimed", "default")
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        counts.flush()
    assert not captured
    counts.flush()
    assert written() == {"claimed": 1}


def test_database_that_fails_is_complained_about_once(caplog: pytest.LogCaptureFixture) -> None:
    """The counts are lost, the request is not."""
    caplog.set_level(logging.DEBUG, "django_idempotency")
    for _ in range(2):
        counts.count("claimed", "default")
        with mock.patch.object(counts, "_insert", side_effect=DatabaseError("no such table")):
            counts.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    counts.flush()
    assert written() == {}


@pytest.mark.skipif(connection.vendor != "sqlite", reason="elsewhere an INSERT waits for nobody")
def test_locked_database_is_not_waited_for() -> None:
    """A view that holds SQLite's one lock for long holds no other worker; nothing is lost."""
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
    counts.count("claimed", "default")
    # If the lock were waited for, this test would hang until pytest ends it.
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 3600000")
    counts.flush()
    assert written() == {}
    connection.close()
    other.close()
    counts.flush()
    assert written() == {"claimed": 1}


def test_no_connection_is_left_open(settings: Settings) -> None:
    """Django has closed those of the request before the counts are written."""
    connection.close()
    connection.settings_dict["CONN_MAX_AGE"] = 0
    counts.count("claimed", "default")
    finish_request()
    assert connections["default"].connection is None
    assert written() == {"claimed": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_child_does_not_write_what_its_parent_counted() -> None:
    """Not even when another thread of the parent was counting just then."""
    counts.count("claimed", "default")
    with counts._tally._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if counts._tally.aliases() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    counts.flush()
    assert written() == {"claimed": 1}


def test_switched_off_counts_nothing(settings: Settings) -> None:
    """And drops what was there."""
    settings.IDEMPOTENCY_STATISTICS = False
    counts.count("claimed", "default")
    counts.flush()
    settings.IDEMPOTENCY_STATISTICS = True
    counts.flush()
    assert written() == {}


@pytest.mark.slow
@pytest.mark.parametrize("serve", [gunicorn, uvicorn])
def test_counts_of_a_real_server_arrive(
    serve: Callable[[Path], AbstractContextManager[str]], tmp_path: Path, key: str
) -> None:
    """Each process writes after a request; by ASGI the next one may have claimed by then."""
    with serve(tmp_path) as address:
        for number in range(8):
            headers = {"Idempotency-Key": f"{key}{number}"}
            order = Request(f"{address}/exempt/?act=order", b"{}", headers, method="POST")
            with urlopen(order) as reply:
                assert reply.status == 201
        until(written, "the counts did not arrive")
    found = written()
    assert 1 <= found["completed"] <= found["claimed"] <= 8
