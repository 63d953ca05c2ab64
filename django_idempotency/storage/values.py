"""What goes into a record and what comes out: plain values, which know no database."""

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
    """What a request wants recorded: who asks (scope, key) and what (fingerprint, 32 bytes)."""

    id: uuid.UUID
    scope: str
    key: str
    fingerprint: bytes
    method: str
    path: str
    #: Whether a completer goes on with it, for whom what is not finished does not expire.
    is_resumed: bool = False


@dataclass(frozen=True, slots=True)
class Terms:
    """How a claim is made: the owner's token, which attempt, and how long it is trusted."""

    token: uuid.UUID
    attempts: int
    atomic: bool
    lease: timedelta
    retention: timedelta


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response's lasting parts. ``body`` is None where it was larger than the limit.

    ``codec`` names what the body was encoded with; empty for the bytes as they were sent.
    ``expires_in`` is for how many seconds a record answers with it, where it was read from one.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes | None
    codec: str = ""
    expires_in: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Found:
    """A record as it was read; ages are by the database's clock, in seconds.

    ``touched`` says that its owner has locked the row at least once (PostgreSQL tells).
    """

    fingerprint: bytes
    status: Status
    token: uuid.UUID
    attempts: int
    atomic: bool
    age: float
    lease_over: bool
    #: For how long it has been expired; negative before that.
    overdue: float
    touched: bool
    #: Whether the owner holds his lock; None where nobody has asked.
    alive: bool | None
    response: StoredResponse | None

    @property
    def expired(self) -> bool:
        """Whether the record answers no more."""
        return self.overdue >= 0

    @classmethod
    def of(cls, row: Sequence[Any]) -> "Found":
        """What a SELECT of the columns of :class:`~.statements.Texts` found."""
        (
            fingerprint,
            status,
            token,
            attempts,
            atomic,
            age,
            lease_over,
            overdue,
            touched,
            alive,
            *response,
        ) = row
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
    """What came of a claim's INSERT."""

    OURS = auto()
    LOST = auto()
    LOCKED = auto()


def inserted(row: Sequence[Any] | None) -> Inserted | Found:
    """What an INSERT says with the record in its way: how many rows it made, and that."""
    if row is not None and row[0]:
        return Inserted.OURS
    # Its own INSERT was committed while ours waited for it: the next statement sees it.
    return Inserted.LOST if row is None or row[1] is None else Found.of(row[1:])


def _response(
    status: int, headers: str, body: Any, codec: str, *, expires_in: float
) -> StoredResponse:
    pairs = [(name, value) for name, value in json.loads(headers)]
    return StoredResponse(status, pairs, None if body is None else bytes(body), codec, expires_in)
