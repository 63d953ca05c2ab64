"""Sends requests to the site of this process through Django's WSGI handler, without a socket."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Any
from wsgiref.util import setup_testing_defaults

from django.conf import settings
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from benchmarks.sites.orders import request
from benchmarks.sites.orders.models import Order
from benchmarks.sites.orders.views import PATIENCE, gate, runs
from benchmarks.sites.prepare import prepare


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, and the seconds it took: by the clock, and of the processor's time."""

    status: int
    body: bytes
    wall: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Sent:
    """How many statements the database got, and how many commands Redis."""

    statements: int
    commands: int


class Site:
    """The current contestant's site; makes its database."""

    def __init__(self) -> None:
        prepare()
        self._handler = WSGIHandler()

    def ask(self, key: str | None) -> Reply:
        """Send the request, which alone is timed; without a key, to the bare view."""
        environ = _environ(key)
        cpu, wall = time.process_time(), time.perf_counter()
        response = self._handler(environ, _start_response)
        body = b"".join(response)
        response.close()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return Reply(response.status_code, body, wall, cpu)

    def ask_beside(self, key: str) -> None:
        """The same in another thread, with a connection of its own."""
        self.ask(key)
        connections.close_all()

    def sent(self, key: str | None) -> Sent:
        """What one request sends."""
        captured = CaptureQueriesContext(connection)
        with _commands() as commands, _own_statements() as own, captured:
            self.ask(key)
        return Sent(len(captured) + len(own), commands[0])

    def effects(self) -> tuple[int, int]:
        """How often the view ran, and how many rows there are."""
        return len(runs), Order.objects.count()

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """A context in which the key's first request is inside its view."""
        gate.close()
        thread = threading.Thread(target=self.ask_beside, args=(key,))
        thread.start()
        try:
            if not gate.entered.wait(PATIENCE):
                raise TimeoutError("the first request did not reach its view")
            yield
        finally:
            gate.opened.set()
            thread.join()


def _environ(key: str | None) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": request.PATH if key else request.BARE_PATH,
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(request.BODY)),
        "HTTP_ACCEPT": "application/json",
        "wsgi.input": BytesIO(request.BODY),
    }
    setup_testing_defaults(environ)
    return environ | ({"HTTP_IDEMPOTENCY_KEY": key} if key else {})


def _start_response(*_: Any) -> Callable[[bytes], object]:
    """Ignore the head of a response, which is on the response as well."""
    return lambda _: None


@contextmanager
def _commands() -> Iterator[list[int]]:
    """How many commands Redis gets inside, by its own account; in the list at the end."""
    cache: Any = caches["redis"]
    count: list[int] = []
    client = cache.client.get_client()

    def total() -> int:
        return int(client.info("stats")["total_commands_processed"])

    # Connecting sends commands, too.
    total()
    before = total()
    yield count
    # The question for the number before is counted as well.
    count.append(total() - before - 1)


def _own_statements() -> AbstractContextManager[list[str]]:
    """What a contestant sends on connections that are not Django's."""
    watched = getattr(import_module(settings.ROOT_URLCONF), "watched", None)
    return nullcontext([]) if watched is None else watched()
