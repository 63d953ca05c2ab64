"""``manage.py complete_idempotent_operations``: once, or until a signal stops it."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import OperationalError
from pytest_django import Settings

from django_idempotency.management.commands import complete_idempotent_operations as commands
from django_idempotency.models import IdempotencyEnvelope, IdempotencyRecord
from tests.concurrency.owners import in_thread
from tests.conftest import Post
from tests.support.stage import PAST, DownError, bake, due, fails_first, outcome, plays, runs

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls("tests.support.stage"),
]


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The command's handlers of signals do not outlive the test."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def command(*arguments: str) -> tuple[int, str, str]:
    """Its exit status, and what it writes."""
    out, err = StringIO(), StringIO()
    try:
        call_command("complete_idempotent_operations", *arguments, stdout=out, stderr=err)
    except SystemExit as error:
        return int(error.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def interrupted(post: Post, number: int, failures: int = 0, door: str = "/kept/") -> list[str]:
    """Operations whose first attempts failed; so many of the next ones fail again."""
    errors = [DownError()] * (number + failures)
    plays(fails_first(lambda op: op.step("ride", bake), *errors))
    keys = [uuid.uuid4().hex for _ in range(number)]
    for key in keys:
        assert post(door, key).status_code == 500
    return keys


def test_nothing_is_due() -> None:
    """It says so."""
    assert command() == (0, "Nothing is due.\n", "")


def test_what_is_due_is_finished_and_counted(post: Post) -> None:
    """Those that are left are named, with the reason."""
    keys = interrupted(post, 3, failures=1)
    due()
    status, out, err = command()
    assert (status, err) == (0, "")
    assert "2 completed, 1 pending" in out
    assert "pending: DownError" in out
    assert runs("bake lemon") == 3
    due()
    assert command()[1] == "1 completed\n"
    for key in keys:
        assert outcome(post("/kept/", key))


def test_every_operation_is_told_if_asked(post: Post) -> None:
    """By its id."""
    interrupted(post, 1)
    due()
    assert f"{IdempotencyRecord.objects.get().pk} completed\n" in command("-v", "2")[1]


def test_program_gets_the_same_facts(post: Post) -> None:
    """One object."""
    interrupted(post, 2, failures=1)
    due()
    facts = json.loads(command("--format", "json")[1])
    assert facts["completed"] == facts["pending"] == 1
    assert facts["given_up"] == facts["failed"] == 0


def test_given_up_operation_is_an_error(post: Post, settings: Settings) -> None:
    """The exit status says that a person has to look at it."""
    settings.IDEMPOTENCY_COMPLETER_ATTEMPTS = 1
    interrupted(post, 1, failures=1)
    due()
    status, out, err = command()
    assert status == 1
    assert "1 given up" in out
    assert "wait for a person" in err


@pytest.mark.parametrize(("arguments", "left"), [(("--limit", "2"), 1), (("--dry-run",), 3)])
def test_less_is_done_if_asked(arguments: tuple[str, ...], left: int, post: Post) -> None:
    """Some, or nothing."""
    interrupted(post, 3)
    due()
    _, out, _ = command(*arguments)
    assert IdempotencyEnvelope.objects.count() == left
    assert ("3 operations are due" in out) is (left == 3)


def test_other_database_is_completed(post: Post) -> None:
    """The one it is given."""
    interrupted(post, 1, door="/kept/elsewhere/")
    assert IdempotencyEnvelope.objects.using("other").update(due_at=PAST) == 1
    assert command()[1] == "Nothing is due.\n"
    assert command("--database", "other")[1] == "1 completed\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loop_ends_after_the_operation_in_which_the_signal_comes(number: int, post: Post) -> None:
    """That one is finished, and saved; the others are left to the next completer."""
    interrupted(post, 3)
    due()

    @plays
    def act(op: Any) -> Any:
        os.kill(os.getpid(), number)
        return op.step("ride", bake)

    status, out, _ = command("--loop")
    assert (status, out) == (0, "1 completed\n")
    assert IdempotencyEnvelope.objects.count() == 2


def test_loop_waits_for_what_becomes_due(post: Post) -> None:
    """It keeps looking; a signal while nothing is due stops it at once."""
    interrupted(post, 1)

    def world() -> None:
        time.sleep(0.2)
        due()
        while IdempotencyEnvelope.objects.exists():
            time.sleep(0.02)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        turning = in_thread(pool, world)
        status, out, _ = command("--loop", "--interval", "0.05")
        turning.result()
    assert (status, out) == (0, "1 completed\n")


def test_loop_outlives_an_outage_of_the_database(post: Post) -> None:
    """It says so, and goes on when the database is back."""
    interrupted(post, 1)
    due()
    real, down = commands.complete_due, [OperationalError("away"), OperationalError("away")]

    def unreliable(*args: Any) -> Any:
        if down:
            raise down.pop()
        yield from real(*args)
        os.kill(os.getpid(), signal.SIGTERM)

    with patch.object(commands, "complete_due", unreliable):
        status, out, err = command("--loop", "--interval", "0.01")
    assert (status, out) == (0, "1 completed\n")
    assert err.count("The database cannot be reached: away") == 2
