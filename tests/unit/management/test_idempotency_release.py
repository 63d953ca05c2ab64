"""``manage.py idempotency_release``: frees the key of a dead owner, or says why not."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.conftest import Post

from . import HOUR, SCOPE, code_of, count, facts, make, run

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


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
    """On the standard output, in addition to the exit code."""
    output = StringIO()
    with pytest.raises(CommandError, match="no such record"):
        call_command(
            "idempotency_release", "gone", "--scope", SCOPE, "--format", "json", stdout=output
        )
    assert json.loads(output.getvalue())["result"] == "gone"
