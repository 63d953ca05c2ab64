"""Several Valkey servers that start, stop and fail over together."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Self, TypeVar

from .errors import ServerError
from .valkey import Valkey

V = TypeVar("V", bound=Valkey)

# Seconds for what takes one to three on an idle machine.
PATIENCE = 30.0

# How often a group is asked for its state: many small questions to several servers.
PERIOD = 0.05


class Group(ABC):
    """Servers that know each other; use it as a context manager."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self._resources = contextlib.ExitStack()

    @abstractmethod
    def form(self) -> None:
        """Start the servers, introduce them to each other and wait until they are whole."""

    @abstractmethod
    def is_whole(self) -> bool:
        """Whether every server runs and has found all the others."""

    def __enter__(self) -> Self:
        """Start everything; raises ServerError."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.form()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything and remove its folders."""
        self.close()

    def close(self) -> None:
        """Stop everything and remove its folders; harmless when repeated."""
        self._resources.close()

    def begin(self, server: V) -> V:
        """Start one server, which ends with the group."""
        self._resources.enter_context(server)
        return server

    def wait_until_whole(self) -> None:
        """Return when the group can lose a server; raises ServerError."""
        wait_until(self.is_whole, f"{self.name} is not whole")


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    """Return when ``condition`` holds; a server that does not answer does not fulfil it."""
    deadline = time.monotonic() + PATIENCE
    while not holds(condition):
        if time.monotonic() > deadline:
            raise ServerError(f"{complaint} after {PATIENCE:.0f} s")
        time.sleep(PERIOD)


def holds(condition: Callable[[], bool]) -> bool:
    """Whether ``condition`` is true and could be asked for."""
    try:
        return condition()
    except (OSError, ServerError):
        return False


def answering(servers: Sequence[V]) -> list[V]:
    """Those of the servers that are neither crashed nor frozen."""
    return [server for server in servers if server.answers()]


def by_port(servers: Sequence[V], port: int) -> V:
    """The server with this port; raises ServerError for a stranger's."""
    for server in servers:
        if server.port == port:
            return server
    raise ServerError(f"nobody here has port {port}")
