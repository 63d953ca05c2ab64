"""Records for the commands to work on, and the commands themselves: as calls, and as programs."""

import json
import subprocess
import sys
import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from django_idempotency.http.keys import record_id
from django_idempotency.models import IdempotencyRecord, Status, UtcNow

HOUR = timedelta(hours=1)
SCOPE = "user:1"
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
    """Make so many records, each of which expired a second before the last."""
    for number in range(count):
        given = {"expires_at": UtcNow() - HOUR - timedelta(seconds=number), **columns}
        a_record(**given).save(using=using, force_insert=True)


def run(*arguments: str, **options: Any) -> str:
    """What a command writes."""
    output = StringIO()
    call_command(*arguments, stdout=output, stderr=StringIO(), **options)
    return output.getvalue()


def facts(*arguments: str) -> dict[str, Any]:
    """A command's output as a program reads it."""
    return json.loads(run(*arguments, "--format", "json"))  # type: ignore[no-any-return]


def code_of(*arguments: str) -> int:
    """The exit code with which a command refuses."""
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
