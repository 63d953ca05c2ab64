"""The commands: each option, what they leave alone, and how they exit."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from django_idempotency.http.keys import record_id
from django_idempotency.maintenance import cleanup
from django_idempotency.management import progress
from django_idempotency.models import IdempotencyCount, IdempotencyRecord, Status, UtcNow
from django_idempotency.storage.upkeep import Upkeep
from tests.app import effects
from tests.concurrency.owners import in_thread
from tests.conftest import Post

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

HOUR = timedelta(hours=1)
SCOPE = "user:1"
SECRET = "a-path-and-a-body-nobody-may-find"
COMMANDS = [
    "cleanup_idempotency",
    "idempotency_status",
    "idempotency_release",
    "idempotency_erase",
]
ON_SQLITE = connection.vendor == "sqlite"


def a_record(status: Status = Status.COMPLETED, **columns: Any) -> IdempotencyRecord:
    """A record that expired an hour ago."""
    answer: dict[str, Any] = {}
    if status is Status.COMPLETED:
        answer = {"response_status": 200, "response_headers": [], "completed_at": UtcNow()}
    key = columns.setdefault("key", uuid.uuid4().hex)
    scope = columns.setdefault("scope", SCOPE)
    return IdempotencyRecord(
        **{
            "id": record_id(scope, key),
            "fingerprint": b"f" * 32,
            "status": status,
            "token": uuid.uuid4(),
            "attempts": 1,
            "atomic": True,
            "claimed_at": UtcNow() - 2 * HOUR,
            "lease_expires_at": UtcNow() - 2 * HOUR,
            "created_at": UtcNow() - 2 * HOUR,
            "expires_at": UtcNow() - HOUR,
            **answer,
            **columns,
        }
    )


def make(count: int = 1, using: str = "default", **columns: Any) -> None:
    """So many of them, each of which expired a second before the last."""
    for number in range(count):
        given = {"expires_at": UtcNow() - HOUR - timedelta(seconds=number), **columns}
        a_record(**given).save(using=using, force_insert=True)


def run(*arguments: str, **options: Any) -> str:
    """What a command writes."""
    output = StringIO()
    call_command(*arguments, stdout=output, stderr=StringIO(), **options)
    return output.getvalue()


def facts(*arguments: str) -> dict[str, Any]:
    """What a command tells a program."""
    return json.loads(run(*arguments, "--format", "json"))  # type: ignore[no-any-return]


def code_of(*arguments: str) -> int:
    """With which exit code a command refuses."""
    with pytest.raises(CommandError) as refused:
        run(*arguments)
    return refused.value.returncode


def in_a_shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a program of its own."""
    command = [sys.executable, "-m", "django", *arguments, "--settings", "tests.settings"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def count(**conditions: Any) -> int:
    """How many records there are."""
    return IdempotencyRecord.objects.filter(**conditions).count()


# All of them


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_the_options_and_exit_codes(command: str) -> None:
    """Those that change something can also only say what they would do."""
    shown = in_a_shell(command, "--help")
    assert shown.returncode == 0
    assert {"--database", "--format"} <= set(shown.stdout.replace(",", " ").split())
    assert ("--dry-run" in shown.stdout) == (command != "idempotency_status")
    assert "exit codes:\n  0  done\n  1  " in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["cleanup_idempotency", "--database", "nowhere"],
        ["cleanup_idempotency", "--batch-size", "0"],
        ["cleanup_idempotency", "--limit", "-1"],
        ["cleanup_idempotency", "--older-than", "soon"],
        ["cleanup_idempotency", "--sleep", "-1"],
        ["idempotency_status", "--fail-if-stale", "0"],
        ["idempotency_status", "--format", "xml"],
        ["idempotency_release", "key"],
        ["idempotency_release", "", "--scope", SCOPE],
        ["idempotency_erase"],
        ["idempotency_erase", "--scope", ""],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    """With a clear error, before anything is done."""
    make()
    with pytest.raises(CommandError, match="Error: "):
        run(*arguments)
    assert count() == 1


@pytest.mark.slow
def test_bad_argument_exits_with_2() -> None:
    """On the command line, with the usage."""
    refused = in_a_shell("cleanup_idempotency", "--batch-size", "none")
    assert refused.returncode == 2
    assert "'none' is not a whole number from 1" in refused.stderr


# cleanup_idempotency


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
    """So long."""
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
    """Those that no figure needs any more."""
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
def test_cleanup_skips_what_somebody_holds() -> None:
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
    """Two processes; what both say they deleted is what there was."""
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
    """Which SQLite stores with zeros behind it, and Django writes without."""
    make(9)
    spelt = "2020-01-01 00:00:00" + (".000000" if ON_SQLITE else "")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {IdempotencyRecord._meta.db_table} SET expires_at = '{spelt}'")
    assert "9 expired" in run("cleanup_idempotency", "--batch-size", "2")


# idempotency_status


def test_status_says_how_things_stand() -> None:
    """In words."""
    make(2)
    make(status=Status.IN_PROGRESS)
    IdempotencyCount.objects.create(minute=UtcNow(), event="replayed", count=7)
    lines = run("idempotency_status").splitlines()
    said = {line[:24].strip(): line[24:].strip() for line in lines[:8]}
    assert said["completed"] == said["expired, not cleaned up"] == "2"
    assert said["in progress"] == said["in progress, lease over"] == "1"
    assert said["in progress since"].startswith("2:00:0")
    assert said["next expires in"] == "-"
    assert lines[-1].split() == ["replayed", "7", "7", "7"]


def test_status_tells_programs_the_same() -> None:
    """Times in seconds."""
    make(using="other", expires_at=UtcNow() + HOUR)
    said = facts("idempotency_status", "--database", "other", "--exact")
    assert (said["database"], said["completed"], said["stale"]) == ("other", 1, 0)
    assert 3500 < said["next_expiry"] <= 3600
    assert said["oldest_in_progress"] is None
    assert said["estimates"] == []


def test_status_fails_where_too_many_are_stale() -> None:
    """For monitoring; the figures are there all the same."""
    make(2, status=Status.IN_PROGRESS)
    assert run("idempotency_status", "--fail-if-stale", "3")
    output = StringIO()
    with pytest.raises(CommandError, match="2 records are stale") as failed:
        call_command("idempotency_status", "--fail-if-stale", "2", stdout=output)
    assert failed.value.returncode == 1
    assert "in progress, lease over   2" in output.getvalue()


# idempotency_release


def test_released_key_runs_at_once(post: Post, key: str) -> None:
    """Its owner died, and its lease is not over."""
    post("/function/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, claimed_at=UtcNow() - HOUR, **dict.fromkeys(answer)
    )
    arguments = ["idempotency_release", key, "--scope", "anonymous"]
    assert facts(*arguments, "--dry-run")["result"] == "done"
    assert count(status=Status.IN_PROGRESS) == 1
    assert run(*arguments) == "The key is free: the next request with it runs.\n"
    assert IdempotencyRecord.objects.get().error == "ReleasedByHand"
    assert post("/function/", key).status_code == 201
    assert effects.count() == 2


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"key": "another", "status": Status.IN_PROGRESS}, 3),
        ({}, 4),
        (
            {
                "status": Status.IN_PROGRESS,
                "atomic": False,
                "lease_expires_at": UtcNow() + HOUR,
            },
            5,
        ),
        ({"status": Status.IN_PROGRESS, "claimed_at": UtcNow() + HOUR}, 6),
    ],
    ids=["gone", "finished", "trusted", "alive"],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_record_that_is_not_released_says_why(
    columns: dict[str, Any], code: int, dry: list[str]
) -> None:
    """And exits with a code of its own."""
    make(**{"key": "mine", **columns})
    before = IdempotencyRecord.objects.get().status
    assert code_of("idempotency_release", "mine", "--scope", SCOPE, *dry) == code
    assert IdempotencyRecord.objects.get().status == before


def test_refused_release_tells_programs_why() -> None:
    """On the standard output, beside the exit code."""
    output = StringIO()
    with pytest.raises(CommandError, match="no such record"):
        call_command(
            "idempotency_release", "gone", "--scope", SCOPE, "--format", "json", stdout=output
        )
    assert json.loads(output.getvalue())["result"] == "gone"


# idempotency_erase


def dump(alias: str = "default") -> bytes:
    """Every column of every record, as bytes; SQLite's own dump beside them."""
    table = IdempotencyRecord._meta.db_table
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        found = b"\n".join(_bytes(value) for row in cursor.fetchall() for value in row)
        if ON_SQLITE:
            found += "\n".join(cursor.connection.iterdump()).encode()
    return found


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()


def secrets() -> Iterator[bytes]:
    """As they are, and as they look in a dump that writes bytes as hexadecimal digits."""
    for text in (SECRET, SCOPE):
        yield from (
            text.encode(),
            text.encode().hex().encode(),
            text.encode().hex().upper().encode(),
        )


def make_secrets(count: int, **columns: Any) -> None:
    """Records with something in each column that a request or a response fills."""
    for number in range(count):
        answer: dict[str, Any] = {"path": f"/{SECRET}/", "method": "POST", "error": SECRET}
        if columns.get("status", Status.COMPLETED) is Status.COMPLETED:
            answer |= {
                "response_headers": [["Location", SECRET]],
                "response_body": SECRET.encode(),
                "response_codec": SECRET[:32],
            }
        make(key=f"{SECRET}-{number}", expires_at=UtcNow() + HOUR, **answer, **columns)


def test_erased_records_leave_no_byte_in_the_table() -> None:
    """Of one caller, in batches; everybody else's are as before."""
    make_secrets(5)
    make_secrets(2, status=Status.RELEASED, fingerprint=SECRET[:32].encode(), scope="user:1 ")
    IdempotencyRecord.objects.filter(scope="user:1 ").update(scope=SCOPE)
    make(key="other", scope="user:2", path="/other/")
    assert any(secret in dump() for secret in secrets())
    said = facts("idempotency_erase", "--scope", SCOPE, "--batch-size", "2")
    assert said == {"database": "default", "erased": 7, "left": 0, "dry_run": False}
    after = dump()
    assert not [secret for secret in secrets() if secret in after]
    other = IdempotencyRecord.objects.get(scope="user:2")
    assert (other.key, other.path, bytes(other.fingerprint)) == ("other", "/other/", b"f" * 32)
    assert sum(record.is_erased for record in IdempotencyRecord.objects.all()) == 7


@pytest.mark.parametrize("act", ["order", "crash"], ids=["completed", "released"])
def test_erased_key_is_refused_until_its_retention_is_over(post: Post, key: str, act: str) -> None:
    """With 410, whatever the request; then it begins another life."""
    post("/function/", key, act=act)
    run("idempotency_erase", "--scope", "anonymous")
    before = effects.count()
    for body in (None, {"cake": "carrot"}):
        refused = post("/function/", key, body=body)
        assert (refused.status_code, refused.json()["code"]) == (410, "idempotency_key_erased")
    assert effects.count() == before
    IdempotencyRecord.objects.update(expires_at=UtcNow() - HOUR)
    assert post("/function/", key).status_code == 201
    record = IdempotencyRecord.objects.get()
    assert (record.scope, record.key, record.is_erased) == ("anonymous", key, False)
    assert post("/function/", key)["Idempotent-Replayed"] == "true"


def test_forgotten_key_runs_anew(post: Post, key: str) -> None:
    """Its record is gone, and everybody else's is not."""
    post("/function/", key)
    make_secrets(5)
    assert "1 records erased" in run("idempotency_erase", "--scope", "anonymous", "--forget")
    assert count() == 5
    assert post("/function/", key).status_code == 201
    assert effects.count() == 2
    assert "5 records" in run(
        "idempotency_erase", "--scope", SCOPE, "--forget", "--batch-size", "2"
    )


@pytest.mark.parametrize("forget", [[], ["--forget"]], ids=["erase", "forget"])
def test_erase_leaves_what_is_in_progress_and_fails(forget: list[str]) -> None:
    """The rest is erased; run it again when that has finished."""
    make(2)
    make(status=Status.IN_PROGRESS, key="runs")
    arguments = ["idempotency_erase", "--scope", SCOPE, *forget]
    assert code_of(*arguments) == 1
    assert IdempotencyRecord.objects.get(scope=SCOPE).key == "runs"
    IdempotencyRecord.objects.filter(key="runs").update(status=Status.RELEASED)
    assert "1 records erased" in run(*arguments)


@pytest.mark.skipif(ON_SQLITE, reason="one writer")
@pytest.mark.parametrize("forget", [[], ["--forget"]], ids=["erase", "forget"])
def test_erase_skips_what_somebody_holds(forget: list[str]) -> None:
    """It does not wait, and says that something is left."""
    make(3)
    held = IdempotencyRecord.objects.order_by("id")[1].pk
    arguments = ["idempotency_erase", "--scope", SCOPE, *forget]
    with ThreadPoolExecutor(1) as pool, transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get(pk=held)
        assert in_thread(pool, lambda: code_of(*arguments)).result(timeout=10) == 1
    assert IdempotencyRecord.objects.get(scope=SCOPE).pk == held
    assert "1 records erased" in run(*arguments)


def test_dry_erase_changes_nothing() -> None:
    """It counts, and fails where something would be left."""
    make_secrets(3)
    before = dump()
    assert facts("idempotency_erase", "--scope", SCOPE, "--dry-run")["erased"] == 3
    assert dump() == before
    make(status=Status.IN_PROGRESS)
    assert code_of("idempotency_erase", "--scope", SCOPE, "--dry-run") == 1


def test_erase_pauses_and_works_on_the_database_it_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And on no other."""
    paused: list[float] = []
    monkeypatch.setattr(cleanup.time, "sleep", paused.append)
    make(2)
    make(3, using="other")
    arguments = ["--batch-size", "2", "--sleep", "1s", "--database", "other"]
    assert facts("idempotency_erase", "--scope", SCOPE, *arguments)["erased"] == 3
    assert paused == [1.0, 1.0]
    assert count(scope=SCOPE) == 2
