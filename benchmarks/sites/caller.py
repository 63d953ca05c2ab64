"""Sends requests to the site of this process: through Django's WSGI handler, without a socket."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from typing import Any, Protocol

from django.conf import settings
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from benchmarks.sites.orders import request
from benchmarks.sites.orders.models import Order
from benchmarks.sites.orders.views import gate, runs
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
    """The texts for the database, and the number of commands for Redis."""

    statements: list[str]
    commands: int = 0


class Caller(Protocol):
    """What a worker needs of a contestant."""

    def ask(self, key: str | None) -> Reply:
        """Send the request, to the bare view without a key."""

    def effects(self) -> tuple[int, int]:
        """How often the view ran, and how many rows there are."""

    def held(self, key: str) -> AbstractContextManager[None]:
        """A context in which the key's first request is inside its view."""

    def sent(self, key: str | None) -> Sent:
        """What one request sends."""


def timed(ask: Callable[[], tuple[int, bytes]]) -> Reply:
    """Only ``ask`` is timed."""
    cpu, wall = time.process_time(), time.perf_counter()
    status, body = ask()
    wall = time.perf_counter() - wall
    return Reply(status, body, wall, time.process_time() - cpu)


def _environ(key: str | None) -> dict[str, Any]:
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": request.PATH if key else request.BARE_PATH,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(request.BODY)),
        "HTTP_HOST": "127.0.0.1",
        "HTTP_ACCEPT": "application/json",
        "HTTP_USER_AGENT": "benchmarks",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(request.BODY),
        "wsgi.errors": BytesIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    return environ | ({"HTTP_IDEMPOTENCY_KEY": key} if key else {})


def _start_response(*_: Any) -> Callable[[bytes], object]:
    """Take the head of a response, which is on the response as well."""
    return lambda _: None


class Site:
    """The current contestant's site; makes its database."""

    def __init__(self) -> None:
        prepare()
        self._handler = WSGIHandler()

    def ask(self, key: str | None, **headers: str) -> Reply:
        environ = _environ(key) | headers

        def handled() -> tuple[int, bytes]:
            response = self._handler(environ, _start_response)
            body = b"".join(response)
            response.close()
            return response.status_code, body

        return timed(handled)

    def effects(self) -> tuple[int, int]:
        return len(runs), Order.objects.count()

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        gate.close()
        thread = threading.Thread(target=self._elsewhere, args=(key,))
        thread.start()
        try:
            if not gate.wait_until_held():
                raise TimeoutError("the first request did not reach its view")
            yield
        finally:
            gate.open()
            thread.join()

    def _elsewhere(self, key: str) -> None:
        self.ask(key)
        connections.close_all()

    def sent(self, key: str | None) -> Sent:
        captured = CaptureQueriesContext(connection)
        with _commands() as commands, _own_statements() as own, captured:
            self.ask(key)
        return Sent([query["sql"] for query in captured] + own, commands[0])


@contextmanager
def _commands() -> Iterator[list[int]]:
    """How many commands Redis has been sent inside, at the end; by its own account."""
    cache: Any = caches["redis"]
    count: list[int] = []
    client = cache.client.get_client()

    def total() -> int:
        return int(client.info("stats")["total_commands_processed"])

    # Another look first: the connection itself is made by commands.
    total()
    before = total()
    yield count
    # Without the one that told the number before.
    count.append(total() - before - 1)


def _own_statements() -> AbstractContextManager[list[str]]:
    """What a contestant sends on connections that are not Django's."""
    watched = getattr(import_module(settings.ROOT_URLCONF), "watched", None)
    return nullcontext([]) if watched is None else watched()
