"""The records in the admin: what is shown to whom, at which cost, and what may be done."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from django.test import Client
from django.urls import reverse

from django_idempotency.keys import record_id
from django_idempotency.models import IdempotencyRecord, Status
from tests.conftest import staff

LIST = reverse("admin:django_idempotency_idempotencyrecord_changelist")
UNANSWERED: dict[str, Any] = {
    "response_status": None,
    "response_headers": None,
    "response_body": None,
    "completed_at": None,
}


def made(key: str = "key", **changes: Any) -> IdempotencyRecord:
    """A record; completed a minute ago and trusted for a day, unless ``changes`` say otherwise."""
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
    """A record in progress; by a claim of a minute ago, whose lease has just ended."""
    return made(key, **{"status": Status.IN_PROGRESS, **UNANSWERED, **changes})


def page_of(record: IdempotencyRecord) -> str:
    """The address of a record's page."""
    return reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])


def client_of(*permissions: str) -> Client:
    """Somebody who has these permissions and no others."""
    client = Client()
    client.force_login(staff(*permissions))
    return client


def act(
    client: Client, action: str, *records: IdempotencyRecord, url: str = LIST, **data: str
) -> Any:
    """Run an action on these records; she is sure."""
    chosen = [str(record.pk) for record in records]
    sent = {"action": action, "_selected_action": chosen, "post": "yes", **data}
    return client.post(url, sent, follow=True)


def told(response: Any) -> list[str]:
    """The messages on a page."""
    return [str(message) for message in response.context["messages"]]
