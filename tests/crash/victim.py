"""A worker process that meets a fault in the middle of a request, and lives on if it can.

Each is forked from a process that has Django ready and no connection open (:mod:`.warm`), so it
costs some milliseconds. It sends one request through the test app, reports, waits for a word, and
sends the same request again.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from django.db import close_old_connections, connection, connections
from django.test import Client

from django_idempotency.storage.dialects import dialect_of
from tests.app import effects, views

from .boundaries import Boundaries, Boundary, Strike
from .wire import listen

Pipe: TypeAlias = "Connection[Any, Any]"

_HUNG_SECONDS = 20.0

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload([f"{__package__}.warm"])


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

    def __init__(self, process: Any, pipe: Pipe) -> None:
        self._process = process
        self._pipe = pipe
        self.report: Report | None = self._read()
        if self.report is None:
            process.join()
            assert process.exitcode == -signal.SIGKILL

    def _read(self) -> Any:
        assert self._pipe.poll(_HUNG_SECONDS), "hung"
        try:
            return self._pipe.recv()
        except EOFError:
            return None

    def again(self) -> Reply:
        """What the same request gets from the same process, which must have survived."""
        self._pipe.send(None)
        reply: Reply = self._read()
        return reply


def _await_errand(pipe: Pipe) -> None:
    live, errand = pipe.recv()
    live(errand, pipe)


def _new_process() -> tuple[Any, Pipe]:
    """A process that waits for its errand, and our end of the pipe to it."""
    ours, theirs = _forks.Pipe()
    process = _forks.Process(target=_await_errand, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return process, ours


# The next one is made while this one works.
_spare: list[tuple[Any, Pipe]] = []


@contextmanager
def _forked(live: Callable[[Errand, Pipe], None], errand: Errand) -> Iterator[tuple[Any, Pipe]]:
    """A process on its errand, which is dead at the end of the block, and the pipe to it."""
    process, pipe = _spare.pop() if _spare else _new_process()
    with pipe:
        pipe.send((live, errand))
        _spare.append(_new_process())
        try:
            yield process, pipe
        finally:
            process.kill()
            process.join()
            process.close()


@contextmanager
def victim(errand: Errand) -> Iterator[Victim]:
    """A process that has done its errand, and lives until the end of the block or is dead."""
    with _forked(_live, errand) as (process, pipe):
        yield Victim(process, pipe)


def overheard(errand: Errand) -> tuple[list[str], list[str]]:
    """What Django and what the driver said, on a connection that was open already."""
    with _forked(_listen, errand) as (_, pipe):
        assert pipe.poll(_HUNG_SECONDS), "hung"
        said: tuple[list[str], list[str]] = pipe.recv()
        return said
