"""``manage.py idempotency_erase``: no byte of a caller is left."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.maintenance import cleanup
from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.concurrency.owners import in_thread
from tests.conftest import Post

from . import HOUR, ON_SQLITE, SCOPE, code_of, count, facts, make, run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

SECRET = "a-path-and-a-body-nobody-may-find"


def dump(alias: str = "default") -> bytes:
    """Every column of every record, as bytes; on SQLite its own dump, too."""
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
    """Of one caller, in batches; all other records are as before."""
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
    """Its record is gone, and no other."""
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
def test_erase_skips_a_locked_record(forget: list[str]) -> None:
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
