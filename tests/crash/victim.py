"""A worker process that meets a fault in the middle of a request, and lives on if it can.

It is forked from :mod:`.warm`, sends one request through the test app, reports, waits for a message
and sends the same request again.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import close_old_connections, connection, connections
from django.test import Client

from django_idempotency.storage.dialects import dialect_of
from tests.app import effects, views
from tests.support.forks import Fork, Pipe, forked, preload

from .boundaries import Boundaries, Boundary, Strike
from .wire import listen

preload(f"{__package__}.warm")


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be repeated."""

    path: str
    key: str
    body: dict[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """What its sender gets."""

    status: int
    body: bytes
    replayed: bool


def send(request: Request) -> Reply:
    """The reply; a view's exception becomes a 500."""
    client = Client(raise_request_exception=False)
    headers = {"Idempotency-Key": request.key}
    response: Any = client.post(
        request.path, request.body, content_type="application/json", headers=headers
    )
    replayed = response.get("Idempotent-Replayed") == "true"
    return Reply(response.status_code, response.content, replayed)


@dataclass(frozen=True, slots=True)
class Errand:
    """What a victim is to do: a request, with another act in the view's place, and its faults."""

    request: Request
    act: str
    atomic_requests: tuple[str, ...]
    strikes: tuple[Strike, ...] = ()
    log: str = field(default_factory=lambda: str(effects.log()))


@dataclass(frozen=True, slots=True)
class Report:
    """How it went: the reply, what was asked of the databases, whether the view began."""

    reply: Reply
    crossed: list[Boundary]
    began: bool
    #: Faults it never came to.
    missed: list[Strike]


def _serve(request: Request) -> Reply:
    """Reply as a server does, which looks after its connections around each request."""
    close_old_connections()
    try:
        return send(request)
    finally:
        close_old_connections()


def _keep_connections() -> None:
    """Connections live on, as a real server's do; SQLite's cannot be checked for health."""
    for each in connections.all():
        if each.vendor != "sqlite" and "pool" not in each.settings_dict["OPTIONS"]:
            each.settings_dict |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True}


def _note_begin() -> list[bool]:
    """A list that is empty until a view begins."""
    began: list[bool] = []
    kitchen = views.kitchen

    def noting(request: Any) -> Any:
        began.append(True)
        return kitchen(request)

    views.kitchen = noting
    return began


def _prepare(errand: Errand) -> None:
    os.environ["EFFECTS_LOG"] = errand.log
    # However young a claim is, look whether its owner lives.
    type(dialect_of(connection)).grace = 0.0
    views.ACTS["order"] = views.ACTS[errand.act]
    for alias in errand.atomic_requests:
        connections[alias].settings_dict["ATOMIC_REQUESTS"] = True


def _live(errand: Errand, pipe: Pipe) -> None:
    _prepare(errand)
    _keep_connections()
    began = _note_begin()
    boundaries = Boundaries(errand.strikes)
    reply = _serve(errand.request)
    pipe.send(Report(reply, list(boundaries.crossed), bool(began), boundaries.waiting))
    pipe.recv()
    pipe.send(_serve(errand.request))


def _listen(errand: Errand, pipe: Pipe) -> None:
    _prepare(errand)
    heard = listen(connection)
    boundaries = Boundaries(())
    send(errand.request)
    words = [boundary.word for boundary in boundaries.crossed]
    pipe.send(([word for word in words if word != "AUTOCOMMIT"], heard()))


class Victim:
    """The process, seen from outside; ``report`` is None if it died of its fault."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        self.report: Report | None = fork.hear()

    def again(self) -> Reply:
        """What the same request gets from the same process, which must have survived."""
        self._fork.pipe.send(None)
        reply: Reply = self._fork.hear()
        return reply


@contextmanager
def victim(errand: Errand) -> Iterator[Victim]:
    """A process that has done its errand, and lives until the end of the block or is dead."""
    with forked(_live, errand) as fork:
        yield Victim(fork)


def overheard(errand: Errand) -> tuple[list[str], list[str]]:
    """What Django and what the driver said, on a connection that was open already."""
    with forked(_listen, errand) as fork:
        said: tuple[list[str], list[str]] = fork.hear()
        return said
