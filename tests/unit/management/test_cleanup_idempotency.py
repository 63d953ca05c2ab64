"""``manage.py cleanup_idempotency``: what is deleted, in which portions, and what stays."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from django_idempotency.maintenance import cleanup
from django_idempotency.management import progress
from django_idempotency.models import IdempotencyCount, IdempotencyRecord, Status, UtcNow
from django_idempotency.storage.upkeep import Upkeep
from tests.concurrency.owners import in_thread

from . import HOUR, ON_SQLITE, a_record, count, facts, make, run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def test_cleanup_deletes_what_is_expired_and_nothing_else() -> None:
    """In batches, to the last."""
    make(5)
    make(key="answers", expires_at=UtcNow() + HOUR)
    make(status=Status.RELEASED)
    make(status=Status.IN_PROGRESS, key="runs")
    assert run("cleanup_idempotency", "--batch-size", "2").startswith("6 expired records deleted.")
    assert set(IdempotencyRecord.objects.values_list("key", flat=True)) == {"answers", "runs"}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_cleanup_loses_no_record_at_the_edge_of_a_batch(batch_size: int) -> None:
    """Whether the last batch is full or not."""
    make(6)
    assert f"{6} expired" in run("cleanup_idempotency", batch_size=batch_size)
    assert count() == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 10])
def test_cleanup_deletes_all_that_expired_in_the_same_moment(batch_size: int) -> None:
    """As after one UPDATE of them all; many more than a batch."""
    make(9)
    IdempotencyRecord.objects.update(expires_at=UtcNow() - HOUR)
    make(2)
    assert "11 expired" in run("cleanup_idempotency", batch_size=batch_size)
    assert count() == 0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 20])
def test_cleanup_stops_at_its_limit(limit: int, ties: bool) -> None:
    """Not a row more, in batches of two, and the oldest first."""
    make(9)
    newest = IdempotencyRecord.objects.order_by("-expires_at").values_list("key", flat=True)[0]
    if ties:
        IdempotencyRecord.objects.update(expires_at=UtcNow() - HOUR)
    deleted = facts("cleanup_idempotency", "--batch-size", "2", "--limit", str(limit))["deleted"]
    assert deleted == min(limit, 9) == 9 - count()
    assert ties or limit >= 9 or count(key=newest) == 1


def test_cleanup_keeps_what_expired_lately() -> None:
    """With ``--older-than``."""
    make(2, expires_at=UtcNow() - 3 * HOUR)
    make(3)
    assert facts("cleanup_idempotency", "--older-than", "2h", "--dry-run")["deleted"] == 2
    assert facts("cleanup_idempotency", "--older-than", "2h")["deleted"] == 2
    assert facts("cleanup_idempotency", "--older-than", "59m")["deleted"] == 3


def test_cleanup_pauses_between_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the time that ``--sleep`` says."""
    paused: list[float] = []
    monkeypatch.setattr(cleanup.time, "sleep", paused.append)
    make(3)
    run("cleanup_idempotency", "--batch-size", "2", "--sleep", "0.5")
    assert paused == [0.5]


def test_dry_cleanup_changes_nothing() -> None:
    """It counts, up to the limit."""
    make(3)
    assert facts("cleanup_idempotency", "--dry-run", "--limit", "2")["deleted"] == 2
    assert run("cleanup_idempotency", "--dry-run") == "3 expired records to delete.\n"
    assert count() == 3


def test_cleanup_works_on_the_database_it_is_given() -> None:
    """And on no other."""
    make(2)
    make(3, using="other")
    said = facts("cleanup_idempotency", "--database", "other")
    assert said == {"database": "other", "deleted": 3, "abandoned": 0, "dry_run": False}
    assert count() == 2


@pytest.mark.parametrize("batch_size", ["1", "2", "3", "100"])
def test_cleanup_leaves_abandoned_operations_and_says_so(batch_size: str) -> None:
    """However long ago they began, and in whichever batch they are."""
    make(2, status=Status.IN_PROGRESS)
    make(3)
    make(2, status=Status.IN_PROGRESS, expires_at=UtcNow() - 3 * HOUR)
    make(status=Status.IN_PROGRESS, key="leased", lease_expires_at=UtcNow() + HOUR)
    make(status=Status.IN_PROGRESS, key="retained", expires_at=UtcNow() + HOUR)
    assert facts("cleanup_idempotency", "--dry-run")["abandoned"] == 4
    said = run("cleanup_idempotency", "--batch-size", batch_size)
    assert said == "3 expired records deleted.\n4 abandoned in progress, and left alone.\n"
    assert count(status=Status.IN_PROGRESS) == 6


def test_cleanup_deletes_old_counts() -> None:
    """Those that are too old for any figure."""
    for days in (0, 7, 9):
        minute: Any = UtcNow() - timedelta(days=days)
        IdempotencyCount.objects.create(minute=minute, event="replayed", count=1)
    run("cleanup_idempotency")
    assert IdempotencyCount.objects.count() == 2


def test_cleanup_never_reads_what_it_has_emptied() -> None:
    """Each batch begins where the last one ended."""
    make(6)
    store = Upkeep("default")
    edges: list[Any] = []

    class Watched:
        """The store, and from where it was asked for the next window."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def edge(self, low: Any, until: Any, size: int) -> Any:
            edges.append(low)
            return store.edge(low, until, size)

    watched: Any = Watched()
    assert cleanup.clean_up(watched, cleanup.Sweep(batch_size=2)).deleted == 6
    assert edges == sorted(set(edges), key=str)
    assert len(edges) == 4


@pytest.mark.skipif(ON_SQLITE, reason="one writer")
def test_cleanup_skips_a_locked_record() -> None:
    """It neither waits for the row nor stops there."""
    make(6)
    held = IdempotencyRecord.objects.order_by("expires_at")[2].pk
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get(pk=held)
        cleaned = in_thread(pool, lambda: run("cleanup_idempotency", "--batch-size", "2"))
        assert "5 expired" in cleaned.result(timeout=10)
    assert IdempotencyRecord.objects.get().pk == held


@pytest.mark.slow
def test_cleanups_started_together_delete_each_record_once() -> None:
    """Two processes: the sum of what they say they deleted is what there was."""
    IdempotencyRecord.objects.bulk_create(
        a_record(expires_at=UtcNow() - HOUR - timedelta(milliseconds=number // 3))
        for number in range(600)
    )
    command = [*(sys.executable, "-m", "django", "cleanup_idempotency"), "--format", "json"]
    command += ["--batch-size", "7", "--settings", "tests.settings"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=60)[0])["deleted"] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(said) == 600
    assert count() == 0


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_cleanup_shows_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what there is to do; and none for a program."""
    pytest.importorskip("tqdm")
    make(3)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    run("cleanup_idempotency", "--dry-run")
    facts("cleanup_idempotency", "--limit", "1")
    assert terminal.getvalue() == ""
    run("cleanup_idempotency")
    assert "| 0/2 [" in terminal.getvalue()


@pytest.mark.parametrize("is_installed", [False, True])
def test_cleanup_without_a_bar_writes_lines_if_asked(
    is_installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on a terminal, or without tqdm."""
    monkeypatch.setattr(progress, "_IS_INSTALLED", is_installed)
    monkeypatch.setattr(sys, "stderr", StringIO() if is_installed else _Terminal())
    make(3)
    error = StringIO()
    call_command("cleanup_idempotency", batch_size=2, limit=1, stdout=StringIO(), stderr=error)
    assert error.getvalue() == ""
    call_command("cleanup_idempotency", batch_size=1, stdout=StringIO(), stderr=error, verbosity=2)
    assert error.getvalue().splitlines()[:2] == ["1 records", "2 records"]


def test_cleanup_ends_at_a_full_second() -> None:
    """SQLite stores it with zeros for the microseconds, and Django writes it without."""
    make(9)
    spelt = "2020-01-01 00:00:00" + (".000000" if ON_SQLITE else "")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {IdempotencyRecord._meta.db_table} SET expires_at = '{spelt}'")
    assert "9 expired" in run("cleanup_idempotency", "--batch-size", "2")
