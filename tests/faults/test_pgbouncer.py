"""PgBouncer in transaction mode: each statement may run in another session, and leaves no trace."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import in_thread
from tests.support.servers import PgBouncer, ServerUnavailableError

from .connecting import asked, connected
from .crowd import together, until_answered

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        connection.vendor != "postgresql", reason="PgBouncer stands before PostgreSQL only"
    ),
]

# Fewer than the callers, so that they share sessions.
SESSIONS = 4
SETTINGS = {
    "lock_timeout": "0",
    "synchronous_commit": "on",
    "transaction_isolation": "read committed",
    "default_transaction_isolation": "read committed",
}


@pytest.fixture(autouse=True)
def bouncer() -> Iterator[None]:
    """Connections go through a PgBouncer with four sessions."""
    if connection.settings_dict["OPTIONS"].keys() & {"isolation_level", "pool"}:
        pytest.skip("this run has an isolation level or a pool of its own")
    behind: Any = SimpleNamespace(port=asked("default", "SELECT inet_server_port()"))
    try:
        with ExitStack() as stack:
            options = {"default_pool_size": str(SESSIONS)}
            port = str(stack.enter_context(PgBouncer(behind, options)).port)
            stack.enter_context(connected(PORT=port, DISABLE_SERVER_SIDE_CURSORS=True))
            yield
    except ServerUnavailableError as error:
        pytest.skip(str(error))


def sessions() -> dict[int, dict[str, str]]:
    """The settings of each of PgBouncer's sessions by process id, read at the same time."""
    seen: dict[int, dict[str, str]] = {}
    done = Event()

    def look() -> None:
        with transaction.atomic():
            pid = asked("default", "SELECT pg_backend_pid()")
            seen[pid] = {name: asked("default", f"SHOW {name}") for name in SETTINGS}
            assert done.wait(20)

    connection.close()
    with ThreadPoolExecutor(SESSIONS) as pool:
        futures = [in_thread(pool, look) for _ in range(SESSIONS)]
        while len(seen) < SESSIONS and not any(future.done() for future in futures):
            time.sleep(0.01)
        done.set()
        for future in futures:
            future.result()
    return seen


def test_racers_have_one_effect_for_each_key_and_leave_no_setting(settings: Settings) -> None:
    """After claims, probes, waits, failures and a takeover, every session is as it was."""
    before = sessions()
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=1)
    keys = [uuid.uuid4().hex for _ in range(4)]
    replies = together("/function/?act=slow&seconds=0.1", keys * 4)
    together("/function/?act=crash", [uuid.uuid4().hex for _ in range(8)])
    for key in keys:
        until_answered("/function/?act=slow&seconds=0.1", key)
    assert Order.objects.count() == 4
    assert effects.count() == 12
    assert {reply.status_code for reply in replies} <= {201, 409}
    assert list(before.values()) == [SETTINGS] * SESSIONS
    assert sessions() == before


def test_record_of_a_dead_owner_is_taken_over_once(key: str) -> None:
    """The owner's lock does not outlive its transaction, whatever PgBouncer does."""
    until_answered("/function/", key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS,
        claimed_at=UtcNow() - timedelta(minutes=1),
        **dict.fromkeys(answer),
    )
    replies = together("/function/", [key] * 16)
    until_answered("/function/", key)
    assert Order.objects.count() == effects.count() == 2
    assert {reply.status_code for reply in replies} <= {201, 409}
    assert list(sessions().values()) == [SETTINGS] * SESSIONS
