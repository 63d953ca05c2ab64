"""The site under the hammer: one view behind several promises, and stops on its way.

The body of a request says what is wanted, ``{"errand", "act", "seconds"}``; the header
``Chaos-Linger: POINT;SECONDS;ADDRESS`` makes the worker stop at a point of the protocol, after it
has told its process id to the datagram socket at ADDRESS, if one is given. Faults that hit by
chance then find the narrow places, too.
"""

import json
import os
import random
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import TransitionError
from django_idempotency.protocol.claims import Claim
from django_idempotency.replay_cache.replays import Replays, Slot

from .history import HITS, RUNS, Run
from .models import Ledger
from .promises import LEASE, PROMISES, Promise

View = Callable[[HttpRequest], HttpResponse]

#: What a view may answer instead of 201, every other time.
ACTS = {"serve": 201, "refuse": 400, "crash": 500, "fail": 503}


class Crash(Exception):
    """A bug in the view."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The stop that a request asks for."""

    request: str
    point: str = ""
    seconds: float = 0.0
    address: str = ""

    def at(self, point: str) -> None:
        """Make it, if ``point`` is where."""
        if point == self.point:
            self._report()
            time.sleep(self.seconds)

    def _report(self) -> None:
        # The client that waits for it may be gone.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            if self.address:
                sender.sendto(str(os.getpid()).encode(), self.address)


_stop: ContextVar[Stop] = ContextVar("stop")


def _stop_of(request: HttpRequest) -> Stop:
    number = request.headers["Chaos-Request"]
    if "Chaos-Linger" not in request.headers:
        return Stop(number)
    point, seconds, address = request.headers["Chaos-Linger"].split(";")
    return Stop(number, point, float(seconds), address)


def _append(name: str, line: str) -> None:
    """Append one line in one write, which O_APPEND makes atomic between processes."""
    path = Path(os.environ["IDEMPOTENCY_TEST_FOLDER"]) / name
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def note(run: Run) -> None:
    """Write down that the view began."""
    _append(RUNS, json.dumps(asdict(run)))


def _errand(request: HttpRequest) -> dict[str, Any]:
    try:
        errand: dict[str, Any] = json.loads(request.body)
    except ValueError as error:
        # A client left in the middle of it. Neither gunicorn nor Django minds.
        raise Crash from error
    return errand


def _answer(outcome: int, nonce: str) -> HttpResponse:
    if outcome == ACTS["crash"]:
        raise Crash
    response = JsonResponse({"nonce": nonce}, status=outcome)
    response["Location"] = f"/effects/{nonce}"
    return response


def serve(request: Any) -> HttpResponse:
    """Write an effect, take a while, and answer as was asked for."""
    number, attempt = _stop.get().request, request.idempotency.attempt
    note(Run(number, attempt))
    errand = _errand(request)
    outcome = random.choice((ACTS[errand["act"]], ACTS["serve"]))
    nonce = uuid.uuid4().hex
    Ledger.objects.create(
        request=number,
        caller=request.headers.get("Authorization", ""),
        key=request.headers["Idempotency-Key"],
        path=request.path,
        payload=request.body.decode(),
        nonce=nonce,
        outcome=outcome,
    )
    _stop.get().at("in-view")
    time.sleep(errand["seconds"])
    return _answer(outcome, nonce)


def staged(view: View) -> View:
    """``view`` with the stops that a request asks for."""

    @wraps(view)
    def stopping(request: HttpRequest) -> HttpResponse:
        stop = _stop_of(request)
        _stop.set(stop)
        stop.at("before-claim")
        response = view(request)
        stop.at("after-commit")
        return response

    return stopping


@contextmanager
def _fenced(attempt: int) -> Iterator[None]:
    try:
        yield
    except TransitionError:
        note(Run(_stop.get().request, attempt, fenced=True))
        raise


def stage_claims() -> None:
    """Let a claim's owner stop before it locks and after it completes, and count the lost ones."""
    lock, complete = Claim.lock, Claim.complete

    def stopping_lock(self: Claim, **options: Any) -> None:
        _stop.get().at("after-claim")
        with _fenced(self.terms.attempts):
            lock(self, **options)

    def stopping_complete(self: Claim, response: Any, *, commit: bool = False) -> None:
        # There is no place to stop between a statement and the COMMIT in the same message.
        stop = _stop.get()
        with _fenced(self.terms.attempts):
            complete(self, response, commit=commit and stop.point != "before-commit")
        stop.at("before-commit")

    Claim.lock, Claim.complete = stopping_lock, stopping_complete  # type: ignore[method-assign]


def stage_cache() -> None:
    """Let a worker stop before it fills the replay cache, and count what is found there."""
    fill, look = Slot.fill, Replays.look

    def stopping_fill(self: Slot, response: Any, seconds: float) -> None:
        _stop.get().at("before-fill")
        fill(self, response, seconds)

    def noting_look(self: Replays, intent: Any) -> Slot:
        slot = look(self, intent)
        if slot.response is not None:
            _append(HITS, _stop.get().request)
        return slot

    Slot.fill, Replays.look = stopping_fill, noting_look  # type: ignore[method-assign]


def _protected(promise: Promise) -> View:
    retention = timedelta(days=1 if promise.retention is None else 0)
    return idempotent(
        required=True,
        atomic=promise.atomic,
        wait=timedelta(seconds=promise.wait),
        lease=timedelta(seconds=LEASE),
        retention=retention + timedelta(seconds=promise.retention or 0),
    )(serve)


def named_error(request: HttpRequest) -> HttpResponse:
    """The 500 of an exception, which it names."""
    name = getattr(sys.exc_info()[0], "__name__", "")
    return JsonResponse({"code": name}, status=500)


stage_claims()
stage_cache()
handler500 = "tests.chaos.site.named_error"
urlpatterns = [
    path(where.lstrip("/"), staged(_protected(promise))) for where, promise in PROMISES.items()
]
