"""A worker process that is killed in the middle of an order.

It is forked from :mod:`.warm`, sends one request through the shop, and reports if it survives.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection
from django.test import Client

from django_idempotency.durable.completer import complete
from django_idempotency.exceptions import OperationFailedError
from django_idempotency.models import IdempotencyEnvelope
from testproject.shop import partners
from tests.crash import boundaries
from tests.crash.boundaries import Boundary, Strike
from tests.support.forks import Pipe, forked, preload

from .versions import VERSIONS

preload(f"{__package__}.warm")


@dataclass(frozen=True, slots=True)
class Request:
    """An order that can be repeated."""

    token: str
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    path: str = "/api/deliveries/"
    address: str = "221b Baker Street"

    def send(self) -> "Reply":
        """What its sender gets from this very process; a view's exception becomes a 500."""
        headers = {"Idempotency-Key": self.key, "Authorization": f"Bearer {self.token}"}
        wish = {"cake": "lemon", "icing": "Rosalind", "address": self.address}
        client = Client(raise_request_exception=False)
        response: Any = client.post(
            self.path, wish, content_type="application/json", headers=headers
        )
        replayed = response.get("Idempotent-Replayed") == "true"
        return Reply(response.status_code, response.content, replayed)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the sender of an order gets."""

    status: int
    body: bytes
    replayed: bool = False

    @property
    def code(self) -> str:
        """The name of a refusal."""
        try:
            return str(json.loads(self.body).get("code", ""))
        except ValueError:
            return ""

    @property
    def is_final(self) -> bool:
        """Whether there is no need to ask again."""
        return self.status in (201, 402) or self.code == OperationFailedError.code


@dataclass(frozen=True, slots=True)
class Errand:
    """What a worker is to do, in which version of the shop, and the faults that meet it.

    Without a request it is a completer, which takes up all that is stored.
    """

    request: Request | None = None
    strikes: tuple[Strike, ...] = ()
    version: str = "first"
    provider: str = field(default_factory=lambda: settings.SHOP_PROVIDER_URL)


class Boundaries(boundaries.Boundaries):
    """Those of the database, and each call to a partner, as in ``POST /charges``."""

    def __init__(self, strikes: Sequence[Strike]) -> None:
        super().__init__(strikes)
        call = partners._call

        def crossing(method: str, path: str, *args: Any, **parts: Any) -> Any:
            boundary = Boundary(f"{method} {path}", is_sent=True)
            return self._cross(connection, boundary, partial(call, method, path, *args, **parts))

        partners._call = crossing


def _live(errand: Errand, pipe: Pipe) -> None:
    settings.SHOP_PROVIDER_URL = errand.provider
    settings.ROOT_URLCONF = VERSIONS[errand.version]
    crossed = Boundaries(errand.strikes).crossed
    close_old_connections()
    if errand.request:
        errand.request.send()
    else:
        for pk in list(IdempotencyEnvelope.objects.values_list("pk", flat=True)):
            complete("default", pk)
    pipe.send(crossed)


def done_by_a_worker(errand: Errand) -> list[Boundary] | None:
    """The boundaries a worker has crossed on its errand; None if it was killed on the way."""
    with forked(_live, errand) as fork:
        crossed: list[Boundary] | None = fork.hear()
        return crossed


def crossed(errand: Errand) -> list[Boundary]:
    """Every boundary on the way of an errand without a fault."""
    found = done_by_a_worker(errand)
    assert found
    return found


def kill_a_worker(errand: Errand) -> None:
    """Kill a worker on its errand."""
    assert done_by_a_worker(errand) is None


def kills(boundaries: Sequence[Boundary]) -> Iterator[Strike]:
    """Each kill before and after a boundary at which something is sent.

    Where a boundary raised, a kill after it is the kill before the next one. So it is after
    AUTOCOMMIT, which only MariaDB gets and which follows each COMMIT.
    """
    for number, boundary in enumerate(boundaries, 1):
        if not boundary.is_sent or boundary.word == "AUTOCOMMIT":
            continue
        yield Strike(number, "before", "kill")
        if not boundary.failed:
            yield Strike(number, "after", "kill")


def lasting_kills(boundaries: Sequence[Boundary]) -> Iterator[Strike]:
    """Those before and after a COMMIT and a call: whatever lies between them comes to nothing."""
    for strike in kills(boundaries):
        assert isinstance(strike.at, int)
        word = boundaries[strike.at - 1].word
        if word == "COMMIT" or word.startswith("POST "):
            yield strike


def named(strike: Strike, boundaries: Sequence[Boundary]) -> str:
    """A strike in words."""
    assert isinstance(strike.at, int)
    return f"{strike.at} {strike.when} {boundaries[strike.at - 1].word}"
