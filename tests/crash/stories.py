"""The lives of a request that meet a fault: how each begins, and what it answers without one."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects, views
from tests.app.models import Order

from .boundaries import Strike
from .victim import Reply, Request, send

Ending = Callable[[], None]
Scene = Callable[[Request], AbstractContextManager[Ending]]

_AGO = timedelta(hours=1)
_UNANSWERED = dict.fromkeys(
    ["response_status", "response_headers", "response_body", "completed_at"]
)


@contextmanager
def nobody(request: Request) -> Iterator[Ending]:
    """The key is new."""
    yield lambda: None


@contextmanager
def completed(request: Request) -> Iterator[Ending]:
    """The request was answered."""
    assert send(request).status == 201
    yield lambda: None


@contextmanager
def answered_otherwise(request: Request) -> Iterator[Ending]:
    """Another request with the key was answered."""
    with completed(replace(request, body={"cake": "plum"})) as ending:
        yield ending


@contextmanager
def expired(request: Request) -> Iterator[Ending]:
    """The request was answered in a former life of the key."""
    with completed(request) as ending:
        IdempotencyRecord.objects.update(expires_at=Now() - _AGO)
        yield ending


@contextmanager
def dead(request: Request) -> Iterator[Ending]:
    """An attempt died; it left the row, and its lock is free."""
    with completed(request) as ending:
        Order.objects.all().delete()
        IdempotencyRecord.objects.update(
            status=Status.IN_PROGRESS, claimed_at=Now() - _AGO, **_UNANSWERED
        )
        yield ending


@contextmanager
def dead_and_its_lease_over(request: Request) -> Iterator[Ending]:
    """An attempt without a lock died long ago."""
    with dead(request) as ending:
        IdempotencyRecord.objects.update(lease_expires_at=Now() - _AGO)
        yield ending


@contextmanager
def released(request: Request) -> Iterator[Ending]:
    """An attempt failed and freed the key."""
    with dead(request) as ending:
        IdempotencyRecord.objects.update(status=Status.RELEASED, error="RuntimeError")
        yield ending


@contextmanager
def running(request: Request) -> Iterator[Ending]:
    """The request is running, in another connection, until the ending."""
    began, may_end = threading.Event(), threading.Event()
    order = views.ACTS["order"]

    def waiting(request: Any, nonce: str) -> Any:
        began.set()
        assert may_end.wait(30)
        return order(request, nonce)

    def run() -> Reply:
        try:
            return send(request)
        finally:
            connections.close_all()

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as owner:
        patch.setitem(views.ACTS, "order", waiting)
        reply = owner.submit(run)
        assert began.wait(30)

        def ending() -> None:
            may_end.set()
            assert reply.result().status == 201

        try:
            yield ending
        finally:
            may_end.set()


@dataclass(frozen=True, slots=True)
class Story:
    """One life of a request; without a fault, or only with the given one, it answers ``status``."""

    name: str
    scene: Scene = nobody
    path: str = "/function/"
    #: What the view does in the faulted process; elsewhere it takes orders.
    act: str = "order"
    atomic_requests: tuple[str, ...] = ()
    status: int = 201
    #: Whether the view runs.
    runs: bool = True
    #: What answers when the view was not reached: ours, or Django's own 500 if its own
    #: transaction around us failed.
    refusals: frozenset[int] = frozenset((503,))
    #: A fault that comes for certain; the others come after it.
    given: Strike | None = None

    @property
    def is_atomic(self) -> bool:
        """Whether the view's writes and the saved response commit together."""
        return self.path != "/plainly/"

    @property
    def in_two_databases(self) -> bool:
        """Whether the view writes in the other database, too."""
        return self.path == "/both/"

    @property
    def saves(self) -> bool:
        """Whether a response can be saved before the retry: this request's, or its owner's."""
        return self.status in (201, 409)

    @property
    def frees(self) -> bool:
        """Whether the writes are committed, and the key is freed."""
        return self.status == 401

    @property
    def final(self) -> int:
        """What a retry gets in the end."""
        return 422 if self.status == 422 else 201

    def is_saved(self, before: "State", after: "State") -> bool:
        """Whether there is a response that a retry must get."""
        outlived = self.scene is expired and after.saved == before.saved
        return after.saved is not None and not outlived


@dataclass(frozen=True, slots=True)
class State:
    """What is committed: the record, and the orders of the same moment."""

    status: str | None
    error: str
    #: The nonce of the response that is saved.
    saved: str | None
    orders: frozenset[str]
    #: Those in the other database.
    elsewhere: frozenset[str]
    #: How often a view ran, wherever.
    runs: int


STORIES = {
    story.name: story
    for story in (
        Story("fresh"),
        Story("fresh-in-atomic-requests", atomic_requests=("default",)),
        Story("fresh-in-two-databases", path="/both/", atomic_requests=("default", "other")),
        Story("joined", path="/inside/", refusals=frozenset((500, 503))),
        Story(
            "joined-and-answered-503",
            path="/inside/",
            act="unavailable",
            status=503,
            refusals=frozenset((500, 503)),
        ),
        Story("replay", completed, runs=False),
        Story("raised", act="crash", status=500),
        Story("answered-503", act="unavailable", status=503),
        Story("no-outcome", act="unauthorized", status=401),
        Story("conflict", running, status=409, runs=False),
        Story("takeover", dead),
        Story("recycle", expired),
        Story("released", released),
        Story("mismatch", answered_otherwise, status=422, runs=False),
        Story("plain", path="/plainly/"),
        Story("plain-takeover", dead_and_its_lease_over, path="/plainly/"),
        # What follows a fault is itself not safe from faults.
        Story("commit-done-unheard", given=Strike("COMMIT", "after", "lose")),
        Story("commit-never-sent", status=500, given=Strike("COMMIT", "before", "drop")),
        Story("commit-refused", status=500, given=Strike("COMMIT", "before", "raise")),
        Story("rollback-cut", act="crash", status=500, given=Strike("ROLLBACK", "before", "drop")),
    )
}


def nonce_of(body: bytes) -> str:
    """What the view that wrote this reply called its order."""
    return str(json.loads(body)["nonce"])


_RECORD = f"SELECT status, error, token, response_body FROM {IdempotencyRecord._meta.db_table}"
_ORDERS = f"SELECT nonce FROM {Order._meta.db_table}"
_NO_RECORD = (None, "", None, None)


def _record() -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(_RECORD)
        return cursor.fetchone() or _NO_RECORD


def _orders(alias: str) -> frozenset[str]:
    with connections[alias].cursor() as cursor:
        cursor.execute(_ORDERS)
        return frozenset(nonce for (nonce,) in cursor.fetchall())


def look() -> State:
    """The state of a moment: the record is the same before and after its orders were read."""
    record, orders = _record(), _orders("default")
    while record != (record := _record()):
        orders = _orders("default")
    status, error, _, body = record
    saved = None if body is None else nonce_of(bytes(body))
    return State(status, error, saved, orders, _orders("other"), effects.count())


def clean() -> None:
    """Nothing happened yet."""
    for alias in connections:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute(f"DELETE FROM {Order._meta.db_table}")
            cursor.execute(f"DELETE FROM {IdempotencyRecord._meta.db_table}")
    effects.log().unlink(missing_ok=True)
