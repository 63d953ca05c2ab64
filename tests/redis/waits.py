"""How long requests wait for Redis: each call is one line of ``IDEMPOTENCY_TEST_WAITS``.

Times are seconds of the machine's monotonic clock, which all processes share.
"""

import json
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any

from django.http import HttpRequest, HttpResponse

from django_idempotency.replay_cache.transport import RedisTransport

VARIABLE = "IDEMPOTENCY_TEST_WAITS"
# A busy machine may take so long between an error and what follows from it.
_REACTION_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Wait:
    """One call: its process, its request, its beginning and end, and whether it failed."""

    process: int
    request: str
    began: float
    ended: float
    failed: bool

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


_request: ContextVar[str] = ContextVar("request", default="")


def _note(wait: Wait) -> None:
    """Append one line in one write, which O_APPEND makes atomic between processes."""
    descriptor = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{json.dumps(asdict(wait))}\n".encode())
    os.close(descriptor)


def _timed(question: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(question)
    def timed(*args: Any, **kwargs: Any) -> Any:
        began, failed = time.monotonic(), True
        try:
            answer = question(*args, **kwargs)
            failed = False
            return answer
        finally:
            _note(Wait(os.getpid(), _request.get(), began, time.monotonic(), failed))

    return timed


@cache
def listen() -> None:
    """Every call of this process, and of those forked from it, is noted."""
    for name in ("look", "put", "remove"):
        setattr(RedisTransport, name, _timed(getattr(RedisTransport, name)))


def noting(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """A middleware that tells which request a call belongs to."""
    listen()

    def respond(request: HttpRequest) -> HttpResponse:
        _request.set(uuid.uuid4().hex)
        return get_response(request)

    return respond


def waits(path: Path) -> list[Wait]:
    """All calls that were noted, oldest first."""
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted((Wait(**json.loads(line)) for line in lines), key=lambda wait: wait.began)


def failures(noted: Iterable[Wait]) -> Counter[str]:
    """How many calls of each request failed."""
    return Counter(wait.request for wait in noted if wait.failed)


def too_soon(noted: Iterable[Wait], interval: float) -> Iterator[Wait]:
    """Calls of a process less than an interval after one of its calls had failed.

    Calls after a success that began after the failure do not count.
    """
    by_process: defaultdict[int, list[Wait]] = defaultdict(list)
    for wait in noted:
        by_process[wait.process].append(wait)
    for own in by_process.values():
        for failure in (wait for wait in own if wait.failed):
            successes = (w.ended for w in own if not w.failed and w.began >= failure.ended)
            until = min(failure.ended + interval, *successes, float("inf"))
            since = failure.ended + _REACTION_SECONDS
            yield from (wait for wait in own if since < wait.began < until)
