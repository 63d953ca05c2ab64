"""Owners that stop where a test wants them to: a thread between its claim and its lock, a process
anywhere.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from django_idempotency.engine.attempts import Attempt
from django_idempotency.protocol.claims import Claim

Reply = Any

#: Where an owner can stop: with its claim and before its transaction; and after a failed view.
POINTS: dict[str, tuple[type[Any], str]] = {
    "begin": (Attempt, "_in_transaction"),
    "late release": (Claim, "release_late"),
}


def send(path: str, key: str) -> Reply:
    """One request; a view's exception becomes a 500."""
    client = Client(raise_request_exception=False)
    return client.post(path, headers={"Idempotency-Key": key})


def in_thread(pool: ThreadPoolExecutor, run: Callable[[], Any]) -> "Future[Any]":
    """``run`` on connections of its own, which are closed at its end."""

    def closing() -> Any:
        try:
            return run()
        finally:
            connections.close_all()

    return pool.submit(closing)


class Gate:
    """Where one thread stops until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def stop(self) -> None:
        """Say that the gate was reached, and wait there."""
        self.reached.set()
        assert self.opened.wait(20)


@contextmanager
def stopped_before(
    monkeypatch: pytest.MonkeyPatch, point: str, path: str, key: str
) -> Iterator[tuple[Gate, "Future[Reply]"]]:
    """A request whose owner has stopped before ``point``; others pass."""
    gate = Gate()
    where, method = POINTS[point]
    original = getattr(where, method)
    stops = threading.local()

    def stopping(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(stops, "here", False):
            stops.here = False
            gate.stop()
        return original(self, *args, **kwargs)

    def owner() -> Reply:
        stops.here = True
        return send(path, key)

    monkeypatch.setattr(where, method, stopping)
    with ThreadPoolExecutor(1) as pool:
        future = in_thread(pool, owner)
        try:
            assert gate.reached.wait(20)
            yield gate, future
        finally:
            gate.opened.set()
