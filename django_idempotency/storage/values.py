"""What goes into a record and what comes out of it: plain values, without a database."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from ..models import Status


@dataclass(frozen=True, slots=True)
class Intent:
    """What a request wants to have recorded: who (scope, key) and what (fingerprint, 32 bytes)."""

    id: uuid.UUID
    scope: str
    key: str
    fingerprint: bytes
    method: str
    path: str
    #: Whether a completer resumes the operation. For a completer an unfinished one never expires.
    is_resumed: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """How a claim is made: owner token, number of the attempt, and how long it is trusted."""

    token: uuid.UUID
    attempts: int
    atomic: bool
    lease: timedelta
    retention: timedelta


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The parts of a response that are stored. ``body`` is None where it was above the limit.

    ``codec`` names what the body was encoded with; empty means that it is as it was sent.
    ``expires_in`` is set on a response that was read from a record: the seconds until that expires.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    codec: str = ""
    expires_in: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was read. Ages are in seconds, by the database's clock.

    ``touched`` says that the row has been locked since the claim, which only PostgreSQL tells.
    """

    fingerprint: bytes
    status: Status
    token: uuid.UUID
    attempts: int
    atomic: bool
    age: float
    lease_over: bool
    #: How long ago it expired; negative before that.
    overdue: float
    touched: bool
    #: Whether the owner holds its lock; None where the statement did not ask.
    alive: bool | None
    response: StoredResponse | None

    @property
    def expired(self) -> bool:
        """Whether the retention is over."""
        return self.overdue >= 0

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Found":
        """The record in a row of ``Texts.read``, or of a claim that met it."""
        fingerprint, status, token, attempts, atomic, *rest = row
        age, lease_over, overdue, touched, alive, *response = rest
        return cls(
            bytes(fingerprint),
            Status(status),
            token if isinstance(token, uuid.UUID) else uuid.UUID(token),
            attempts,
            bool(atomic),
            float(age),
            bool(lease_over),
            float(overdue),
            bool(touched),
            alive,
            None if response[0] is None else _response(*response, expires_in=-float(overdue)),
        )


class Inserted(Enum):
    """How a claim's INSERT ended, where it read no record."""

    OURS = auto()
    #: There is a record already.
    LOST = auto()
    #: A lock stopped it.
    LOCKED = auto()


def inserted(row: Sequence[Any] | None) -> Inserted | Found:
    """What a claim's row tells: how many rows it inserted, then the record that was there."""
    if row is not None and row[0]:
        return Inserted.OURS
    # The other INSERT was committed while this one waited for it: the next statement sees it.
    return Inserted.LOST if row is None or row[1] is None else Found.of(row[1:])


def _response(
    status: int, headers: str, body: Any, codec: str, *, expires_in: float
) -> StoredResponse:
    pairs = [(name, value) for name, value in json.loads(headers)]
    return StoredResponse(status, pairs, None if body is None else bytes(body), codec, expires_in)
