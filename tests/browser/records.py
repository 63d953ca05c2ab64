"""Records in the books of a running shop, as they are found on a day like this."""

import json
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django_idempotency.http.keys import record_id

RECORDS, STEPS, ENVELOPES = (
    f"django_idempotency_idempotency{name}" for name in ("record", "step", "envelope")
)
_UNANSWERED = ("response_status", "response_headers", "response_body", "completed_at")
_HEADERS = [["Content-Type", "application/json"], ["Location", "/api/orders/1042/"]]


def _text(when: datetime) -> str:
    return when.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


def record(key: str, *, minutes: float = 5.0, **changes: Any) -> dict[str, Any]:
    """A row: completed so many minutes ago, unless ``changes`` say otherwise."""
    then = datetime.now(UTC) - timedelta(minutes=minutes)
    row: dict[str, Any] = {
        "key": key,
        "scope": "user:1",
        "fingerprint": b"f" * 32,
        "status": "completed",
        "token": uuid.uuid4().hex,
        "attempts": 1,
        "atomic": True,
        "method": "POST",
        "path": "/api/orders/",
        "created_at": then,
        "claimed_at": then,
        "lease_expires_at": then + timedelta(minutes=1),
        "completed_at": then + timedelta(seconds=0.4),
        "expires_at": then + timedelta(minutes=1, days=1),
        "response_status": 201,
        "response_headers": _HEADERS,
        "response_body": b'{"id": 1042, "cake": "lemon", "icing": "Ada", "status": "on-the-way"}',
        "response_codec": "",
        "error": "",
        **changes,
    }
    if row["status"] != "completed":
        row |= dict.fromkeys(_UNANSWERED)
    return row | {"id": record_id(row["scope"], key).hex}


def step(owner: dict[str, Any], name: str, *, minutes: float, **changes: Any) -> dict[str, Any]:
    """A step of that record; a call that returned so many minutes ago, after 0.8 seconds."""
    then = datetime.now(UTC) - timedelta(minutes=minutes)
    row = {
        "record_id": owner["id"],
        "name": name,
        "kind": "call",
        "status": "completed",
        "attempt": 1,
        "input_digest": b"i" * 32,
        "output": b'{"id": "ch_1042", "amount": "24.00", "currency": "EUR"}',
        "codec": "",
        "error": "",
        "token": owner["token"],
        "started_at": then - timedelta(seconds=0.8),
        "completed_at": then,
        **changes,
    }
    return row if row["status"] == "completed" else row | {"output": None, "completed_at": None}


def envelope(owner: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The stored request of that record; due in two minutes."""
    return {
        "record_id": owner["id"],
        "user_id": "1",
        "request": b"{}\n",
        "codec": "",
        "tries": 2,
        "error": "",
        "created_at": owner["created_at"],
        "due_at": datetime.now(UTC) + timedelta(minutes=2),
        **changes,
    }


def _column(value: Any) -> Any:
    if isinstance(value, datetime):
        return _text(value)
    return json.dumps(value) if isinstance(value, list) else value


def write(database: Path, *rows: dict[str, Any], table: str = RECORDS) -> None:
    """Put the rows into the shop's SQLite."""
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for row in rows:
            names, marks = ", ".join(f'"{name}"' for name in row), ", ".join("?" * len(row))
            values = [_column(value) for value in row.values()]
            connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)


def read(database: Path, key: str) -> tuple[Any, ...]:
    """Status and error of one record."""
    query = f"SELECT status, error FROM {RECORDS} WHERE key = ?"
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
        found: tuple[Any, ...] = connection.execute(query, [key]).fetchone()
    return found
