"""A person records how a step ended, unless its operation is running."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from pytest_django import Settings

from django_idempotency.maintenance import resolutions
from django_idempotency.maintenance.resolutions import IN_DOUBT, Doubt, Resolved
from django_idempotency.models import IdempotencyRecord, IdempotencyStep, Status, StepStatus
from django_idempotency.policy import Policy
from django_idempotency.protocol.claims import Claim
from django_idempotency.protocol.waiting import obtain
from django_idempotency.storage.records import Store
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.storage.values import Intent
from tests.conftest import Post
from tests.support import stage
from tests.support.stage import DownError, Service, plays, runs

from . import (
    abandoned,
    client_of,
    decide,
    entries,
    left,
    made,
    page_of,
    resolve,
    running,
    step_of,
    told,
)

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.urls("tests.unit.admin.urls"),
]

LATER = datetime.now(UTC) + timedelta(hours=1)
DONE = "The step is recorded as done: the next attempt goes on after it."
NOT_DONE = "The step is recorded as not done: the next attempt runs it again."
NO_JSON = "Enter a valid JSON."


def in_doubt(post: Post, key: str, service: Service) -> IdempotencyStep:
    """A payment that is made at most once, in an operation that bakes after it."""

    @plays
    def act(op: Any) -> Any:
        receipt = op.call("charge", service, 24, semantics="at_most_once")
        return {"receipt": receipt, "cake": op.step("bake", stage.bake)["pk"]}

    post("/kept/", key)
    return stage.step("charge")


def refused(why: Resolved) -> str:
    """The message of a refusal."""
    return f"Nothing was done. {why.label}"


@contextmanager
def held(record: IdempotencyRecord) -> Iterator[None]:
    """Another connection's transaction locks the record."""
    other = connection.copy()
    other.set_autocommit(False)
    with other.cursor() as cursor:
        table = other.ops.quote_name(IdempotencyRecord._meta.db_table)
        identity = Store("default").dialect.uuid(record.pk)
        cursor.execute(f"UPDATE {table} SET error = 'mine' WHERE id = %s", [identity])
    yield
    other.rollback()
    other.close()


def test_step_recorded_as_done_never_runs_again(admin: Client, post: Post, key: str) -> None:
    """The next attempt continues after it, with the output that was entered."""
    service = Service((DownError(),))
    step = in_doubt(post, key, service)
    assert step.status == StepStatus.UNKNOWN
    response = resolve(admin, step, "done", '{"id": "ch_7", "ö": [1.5, null]}')
    assert told(response) == [DONE]
    assert response.redirect_chain[-1][0] == page_of(step.record)
    assert "A person said so." in response.content.decode()
    receipt = stage.outcome(post("/kept/", key))["receipt"]
    assert receipt == {"id": "ch_7", "ö": [1.5, None]}
    assert len(service.keys) == 1
    assert runs("bake lemon") == 1


def test_step_recorded_as_not_done_runs_again(admin: Client, post: Post, key: str) -> None:
    """Once, with the same downstream key."""
    service = Service(DownError())
    step = in_doubt(post, key, service)
    assert told(resolve(admin, step, "not_done")) == [NOT_DONE]
    decide(admin, step.record, "complete")
    assert stage.record().status == Status.COMPLETED
    assert len(service.keys) == 2
    assert len(service.ledger) == 1
    step.refresh_from_db()
    assert (step.status, step.attempt) == (StepStatus.COMPLETED, 2)


@pytest.mark.parametrize("decision", ["done", "not_done"])
def test_decision_is_in_the_log(decision: str) -> None:
    """With the user, the step and the decision."""
    step = step_of(left(), "charge 100 %s")
    resolve(client_of("view_idempotencyrecord", "complete"), step, decision, "1")
    entry = LogEntry.objects.get()
    assert entry.user.username == "staff_view_idempotencyrecord_complete"
    assert entry.object_id == str(step.record.pk)
    words = decision.replace("_", " ")
    assert entry.change_message == f"Step “charge 100 %s” was recorded as {words}."


@pytest.mark.parametrize("decision", ["done", "not_done"])
def test_nothing_is_done_before_the_confirmation(admin: Client, decision: str) -> None:
    """The page names the step and the consequences."""
    step = step_of(left(), error="ReadTimeout")
    response = resolve(admin, step, decision, post=None)
    page = response.content.decode()
    assert "<code>charge</code>" in page
    assert "ReadTimeout" in page
    assert ("<textarea" in page) is (decision == "done")
    assert str(response.context["action"].consequence) in page
    assert f'name="decision" value="{decision}"' in page
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN
    assert entries() == []


@pytest.mark.parametrize(
    ("written", "output"),
    [(None, b"null"), ("", b"null"), (" ", b"null"), (' {"a" : 1}\n', b'{"a":1}'), ("0", b"0")],
)
def test_output_is_recorded_as_json(admin: Client, written: str | None, output: bytes) -> None:
    """An empty field means null, as for a function that returns nothing."""
    step = step_of(left())
    resolve(admin, step, "done", written)
    step.refresh_from_db()
    assert step.output is not None
    assert (step.status, bytes(step.output)) == (StepStatus.COMPLETED, output)
    assert step.completed_at is not None
    assert step.started_at < step.completed_at


def test_output_goes_through_the_codecs(admin: Client, settings: Settings) -> None:
    """As the output of a step does."""
    settings.IDEMPOTENCY_BODY_CODEC = "gzip"
    step = step_of(left())
    resolve(admin, step, "done", f'"{"cake" * 200}"')
    step.refresh_from_db()
    assert step.codec == "gzip"
    assert "cake" * 200 in admin.get(page_of(step.record) + "?outputs=1").content.decode()


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("{", NO_JSON),
        ("{'a': 1}", NO_JSON),
        ("NaN", NO_JSON),
        ("[1e999]", NO_JSON),
        ("[" * 100_000, NO_JSON),
        (f'"{"a" * 2000}"', "It is longer than 1.0\xa0KB."),
    ],
    ids=["cut", "python", "nan", "infinite", "deep", "long"],
)
def test_what_is_no_output_is_refused(
    admin: Client, settings: Settings, written: str, words: str
) -> None:
    """The message is beside the field, which keeps the text."""
    settings.IDEMPOTENCY_MAX_STEP_BYTES = 1024
    step = step_of(left())
    response = resolve(admin, step, "done", written)
    assert response.status_code == 200
    assert words in response.content.decode()
    assert "<textarea" in response.content.decode()
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN
    assert entries() == []


def test_second_click_changes_nothing(admin: Client) -> None:
    """Nor does the other button of an outdated page."""
    step = step_of(left())
    resolve(admin, step, "done", "1")
    for decision in ("done", "not_done"):
        assert told(resolve(admin, step, decision, "2")) == [refused(Resolved.CERTAIN)]
    step.refresh_from_db()
    assert step.output is not None
    assert bytes(step.output) == b"1"
    assert len(entries()) == 1


def test_step_that_ran_again_is_left(admin: Client) -> None:
    """The page had shown an earlier run."""
    step = step_of(left(), attempt=2)
    assert told(resolve(admin, step, "done", attempt=1)) == [refused(Resolved.CERTAIN)]
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN


@pytest.mark.parametrize("status", set(StepStatus) - set(IN_DOUBT))
def test_step_that_is_not_in_doubt_is_left(admin: Client, status: StepStatus) -> None:
    """Its own record says how it ended."""
    step = step_of(left(), status=status)
    assert told(resolve(admin, step, "done")) == [refused(Resolved.CERTAIN)]
    assert IdempotencyStep.objects.get().status == status


@pytest.mark.parametrize(
    "changes",
    [{"step": "0"}, {"step": "x"}, {"step": ""}, {"step": "9" * 30}, {"decision": "perhaps"}],
    ids=["other", "word", "empty", "long", "undecided"],
)
def test_form_that_makes_no_sense_changes_nothing(admin: Client, changes: dict[str, str]) -> None:
    """None of our pages has sent it."""
    step = step_of(left())
    seen = {"step": step.pk, "attempt": step.attempt, "decision": "done"}
    assert told(decide(admin, step.record, "resolve", **seen | changes)) == [refused(Resolved.GONE)]
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN


def test_step_of_another_record_is_left(admin: Client) -> None:
    """The URL names one record, the form a step of another."""
    step, other = step_of(left("a")), left("b")
    step.record = other
    assert told(resolve(admin, step, "done")) == [refused(Resolved.GONE)]


def test_trusted_owner_keeps_its_step(admin: Client) -> None:
    """Its lease has not ended, so it may still finish the step."""
    record = running(atomic=False, lease_expires_at=LATER)
    step = step_of(record, status=StepStatus.STARTED)
    assert told(resolve(admin, step, "not_done")) == [refused(Resolved.RUNNING)]
    assert IdempotencyStep.objects.get().status == StepStatus.STARTED
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS
    assert entries() == []


def test_finished_operation_is_left(admin: Client) -> None:
    """The step is not read any more."""
    step = step_of(made())
    assert told(resolve(admin, step, "done")) == [refused(Resolved.FINISHED)]


@pytest.mark.usefixtures("atomic_requests")
def test_dead_owner_is_fenced_off(admin: Client) -> None:
    """If it comes back, it can neither record a step nor answer."""
    record = abandoned()
    step = step_of(record, status=StepStatus.STARTED)
    assert told(resolve(admin, step, "not_done")) == [NOT_DONE]
    step.refresh_from_db()
    assert step.status == StepStatus.RETRYING
    record.refresh_from_db()
    assert (record.status, record.error) == (Status.RELEASED, "ReleasedByHand")
    assert not Store("default").lock(record.pk, record.token, wait=None)


@pytest.mark.parametrize("make", [left, abandoned])
def test_locked_record_is_left(admin: Client, make: Any) -> None:
    """The transaction that holds the lock may be running the step."""
    step = step_of(make())
    # The admin's first page writes to the database, and SQLite has one write lock.
    admin.get(page_of(step.record))
    with held(step.record):
        assert told(resolve(admin, step, "done")) == [refused(Resolved.RUNNING)]
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN


@pytest.mark.parametrize("make", [left, abandoned])
def test_claim_that_comes_first_wins(admin: Client, make: Any) -> None:
    """A claim between reading the record and locking it."""
    step = step_of(make())
    seen = Upkeep("default").read(step.record.pk)
    intent = Intent(step.record.pk, "user:1", "key", b"f" * 32, "POST", "/orders/")
    assert isinstance(obtain(Store("default"), intent, Policy(atomic=False)), Claim)
    with mock.patch.object(Upkeep, "read", return_value=seen):
        assert told(resolve(admin, step, "done")) == [refused(Resolved.RUNNING)]
    assert IdempotencyStep.objects.get().status == StepStatus.UNKNOWN
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS


def test_step_that_vanished_frees_no_key() -> None:
    """The owner's claim is not released without a decision."""
    step = step_of(abandoned(), status=StepStatus.STARTED)
    doubt = Doubt(step.record.pk, step.pk, step.attempt)
    IdempotencyStep.objects.update(attempt=2)
    assert resolutions.resolve(Upkeep("default"), doubt, output=b"1") is Resolved.CERTAIN
    IdempotencyStep.objects.all().delete()
    assert resolutions.resolve(Upkeep("default"), doubt, output=b"1") is Resolved.GONE
    assert IdempotencyRecord.objects.get().status == Status.IN_PROGRESS


def test_steps_of_another_database_are_resolved_there(admin: Client, settings: Settings) -> None:
    """In the database that the router chooses."""
    settings.DATABASE_ROUTERS = ["tests.unit.admin.routers.Apart"]
    step = step_of(left())
    resolve(admin, step, "done", "1")
    assert IdempotencyStep.objects.using("other").get().status == StepStatus.COMPLETED
