"""The store cannot be reached before the view: nothing runs, and the client gets 503."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

from django_idempotency.exceptions import UnavailableError
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import atomic_requests_on
from tests.support.servers.server import free_port

from .connecting import BEHIND_PGBOUNCER, connected
from .crowd import ask, until_answered

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOORS = served("/function/", "/mixin/", "/viewset/")
DOWN = str(UnavailableError.advice)


def _nowhere(folder: Path) -> dict[str, Any]:
    """The settings of a server, or of a folder for the file, that does not exist."""
    if connection.vendor == "sqlite":
        return {"NAME": str(folder / "missing" / "db.sqlite3")}
    return {"PORT": str(free_port())}


@pytest.fixture
def down(tmp_path: Path) -> Iterator[ExitStack]:
    """No database accepts connections until the stack is closed."""
    with ExitStack() as stack:
        for alias in connections:
            changes = _nowhere(tmp_path)
            if options := _impatient(alias):
                changes["options"] = options
            stack.enter_context(connected(alias, **changes))
        yield stack


def _impatient(alias: str) -> dict[str, Any]:
    """A pool that does not try to connect for half a minute."""
    pooled = connections[alias].settings_dict["OPTIONS"].get("pool")
    return {"pool": {"timeout": 0.5, "min_size": 0, "max_size": 1}} if pooled else {}


@pytest.mark.parametrize("aliases", [(), ("default",)], ids=["autocommit", "atomic_requests"])
@pytest.mark.parametrize("door", DOORS)
def test_store_that_is_down_runs_nothing(
    door: str, aliases: tuple[str, ...], key: str, down: ExitStack
) -> None:
    """The reply is a 503 with Retry-After and a code, in the form of the door's framework."""
    with atomic_requests_on(*aliases):
        reply = ask(door, key)
    assert effects.count() == 0
    assert reply.status_code == 503
    assert reply["Retry-After"] == "1"
    assert DOWN in reply.content.decode()
    if door == "/function/":
        assert reply["Content-Type"] == "application/problem+json"
        assert reply.json()["code"] == "idempotency_unavailable"
    down.close()
    assert until_answered(door, key).status_code == 201
    assert Order.objects.count() == effects.count() == 1


@pytest.mark.drf
def test_door_inside_of_django_s_transaction_is_not_even_reached(key: str, down: ExitStack) -> None:
    """Under ATOMIC_REQUESTS, Django begins its transaction before the door: its error is a 500."""
    with atomic_requests_on("default"):
        reply = ask("/below/", key)
    assert effects.count() == 0
    assert reply.status_code == 500


@pytest.mark.parametrize("door", [*served("/function/", "/mixin/"), "/plainly/"])
def test_request_without_a_key_fails_as_django_does(door: str, down: ExitStack) -> None:
    """It gets the same 500 as a request to an uncovered view."""
    bare, reply = ask("/bare/"), ask(door)
    assert effects.count() == 0
    assert bare.status_code == 500
    assert reply.status_code == bare.status_code


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no connection to cut")
@pytest.mark.skipif(BEHIND_PGBOUNCER, reason="PgBouncer's sessions are not ours to cut")
def test_connection_that_is_cut_between_requests_costs_one_reply(key: str) -> None:
    """A request on a dead connection gets 503, and the next one has a new connection."""
    options = {} if connection.vendor == "mysql" else {"pool": False}
    with connected(options=options, CONN_MAX_AGE=60, CONN_HEALTH_CHECKS=False):
        connection.ensure_connection()
        _cut()
        reply = ask("/function/", key)
        assert effects.count() == 0
        assert reply.status_code == 503
        connection.close_if_unusable_or_obsolete()
        assert until_answered("/function/", key).status_code == 201
    assert Order.objects.count() == effects.count() == 1


def _cut() -> None:
    """End the session of this thread's connection from another one."""
    kill, own = {
        "postgresql": ("SELECT pg_terminate_backend({})", "SELECT pg_backend_pid()"),
        "mysql": ("KILL {}", "SELECT CONNECTION_ID()"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(own)
        (number,) = cursor.fetchone()
    with connections["other"].cursor() as cursor:
        cursor.execute(kill.format(number))
