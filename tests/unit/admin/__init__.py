"""The records in the admin: what each user sees, what that costs, and what may be done."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from django_idempotency.http.keys import record_id
from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    StepKind,
    StepStatus,
)
from tests.conftest import staff

LIST = reverse("admin:django_idempotency_idempotencyrecord_changelist")
UNANSWERED: dict[str, Any] = {
    "response_status": None,
    "response_headers": None,
    "response_body": None,
    "completed_at": None,
}


def made(key: str = "key", **changes: Any) -> IdempotencyRecord:
    """A record, completed a minute ago and kept for a day, unless ``changes`` say otherwise."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "scope": "user:1",
        "fingerprint": b"f" * 32,
        "status": Status.COMPLETED,
        "token": uuid.uuid4(),
        "attempts": 1,
        "atomic": True,
        "method": "POST",
        "path": "/orders/",
        "created_at": now - timedelta(minutes=1),
        "claimed_at": now - timedelta(minutes=1),
        "lease_expires_at": now,
        "completed_at": now - timedelta(minutes=1),
        "expires_at": now + timedelta(days=1),
        "response_status": 201,
        "response_headers": [["Content-Type", "application/json"], ["X-Oven", "hot"]],
        "response_body": b'{"cake": "lemon"}',
    }
    values |= changes
    identity = record_id(values["scope"], key)
    return IdempotencyRecord.objects.create(pk=identity, key=key, **values)


def running(key: str = "key", **changes: Any) -> IdempotencyRecord:
    """A record in progress, claimed a minute ago, whose lease has just ended."""
    return made(key, **{"status": Status.IN_PROGRESS, **UNANSWERED, **changes})


def left(key: str = "key", **changes: Any) -> IdempotencyRecord:
    """An operation of several steps that failed a minute ago, unless ``changes`` say otherwise."""
    values = {"status": Status.RELEASED, "atomic": False, "error": "DownError", **UNANSWERED}
    return made(key, **values | changes)


def abandoned(key: str = "key", **changes: Any) -> IdempotencyRecord:
    """An operation in progress whose lease ended half a minute ago."""
    ended = datetime.now(UTC) - timedelta(seconds=30)
    return running(key, **{"atomic": False, "lease_expires_at": ended, **changes})


def step_of(record: IdempotencyRecord, name: str = "charge", **changes: Any) -> IdempotencyStep:
    """A call during which its attempt ended, 30 seconds ago, unless ``changes`` say otherwise."""
    values: dict[str, Any] = {
        "kind": StepKind.CALL,
        "status": StepStatus.UNKNOWN,
        "attempt": 1,
        "input_digest": b"i" * 32,
        "token": record.token,
        "started_at": datetime.now(UTC) - timedelta(seconds=30),
        **changes,
    }
    return IdempotencyStep.objects.create(record=record, name=name, **values)


def stored_for(record: IdempotencyRecord, **changes: Any) -> IdempotencyEnvelope:
    """The stored request of an operation, due in ten minutes, unless ``changes`` say otherwise."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "user_id": "7",
        "request": b"{}\nsecret",
        "tries": 2,
        "created_at": now,
        "due_at": now + timedelta(minutes=10, seconds=30),
        **changes,
    }
    return IdempotencyEnvelope.objects.create(record=record, **values)


def page_of(record: IdempotencyRecord) -> str:
    """The address of a record's page."""
    return reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])


def client_of(*permissions: str) -> Client:
    """A client whose user has these permissions and no others."""
    client = Client()
    client.force_login(staff(*permissions))
    return client


def act(
    client: Client, action: str, *records: IdempotencyRecord, url: str = LIST, **data: str
) -> Any:
    """Run an action on these records, and confirm it."""
    chosen = [str(record.pk) for record in records]
    sent = {"action": action, "_selected_action": chosen, "post": "yes", **data}
    return client.post(url, sent, follow=True)


def decide(client: Client, record: IdempotencyRecord, name: str, **data: Any) -> Any:
    """Press a button of the record's page, and confirm it unless ``data`` has ``post=None``."""
    url = reverse(f"admin:django_idempotency_idempotencyrecord_{name}", args=[record.pk])
    sent = {key: value for key, value in {"post": "yes", **data}.items() if value is not None}
    return client.post(url, sent, follow=True)


def resolve(
    client: Client, step: IdempotencyStep, decision: str, output: str | None = None, **data: Any
) -> Any:
    """Say how a step ended, as the page showed it."""
    seen = {"step": step.pk, "attempt": step.attempt, "decision": decision, "output": output}
    return decide(client, step.record, "resolve", **seen | data)


def told(response: Any) -> list[str]:
    """The messages on a page."""
    return [str(message) for message in response.context["messages"]]


def entries() -> list[str]:
    """The texts of the admin's log, the oldest first."""
    return list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))
