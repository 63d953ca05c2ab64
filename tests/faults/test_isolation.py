"""Isolation levels: at each of them a key has one effect, and the layer causes no 500."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib import import_module
from io import StringIO
from threading import Barrier
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection, transaction
from pytest_django import Settings

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.app.models import Order
from tests.concurrency.owners import in_thread, send
from tests.concurrency.test_racers import race
from tests.conftest import Post

from . import views
from .connecting import BEHIND_PGBOUNCER, asked, connected
from .crowd import together, until_answered

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.faults.urls"),
    pytest.mark.skipif(
        connection.vendor == "sqlite", reason="SQLite has one level of isolation, serializable"
    ),
]

# Django's option of that name is for transactions. With psycopg a statement outside of one has the
# server's default, which a project may change as well.
EVERYWHERE = ", everywhere"
LEVELS = {
    "postgresql": [
        "read committed",
        *("repeatable read", "serializable"),
        *(f"repeatable read{EVERYWHERE}", f"serializable{EVERYWHERE}"),
    ],
    "mysql": ["read uncommitted", "read committed", "repeatable read", "serializable"],
}.get(connection.vendor, ["serializable"])

DAY = timedelta(days=1)
CROWD = 16
_UNANSWERED = dict.fromkeys(
    ["response_status", "response_headers", "response_body", "completed_at"]
)


def _options(level: str) -> dict[str, Any]:
    if connection.vendor == "mysql":
        return {"isolation_level": level}
    name = level.removesuffix(EVERYWHERE)
    levels = import_module("psycopg").IsolationLevel
    options = {"isolation_level": levels[name.upper().replace(" ", "_")]}
    if level.endswith(EVERYWHERE):
        options["options"] = f"-c default_transaction_isolation={name.replace(' ', chr(92) + ' ')}"
    return options


_CURRENT = {
    "postgresql": "SHOW transaction_isolation",
    "mysql": "SELECT LOWER(REPLACE(@@tx_isolation, '-', ' '))",
}


@pytest.fixture(autouse=True, params=LEVELS)
def isolation(request: pytest.FixtureRequest) -> Iterator[str]:
    """The level of the project's transactions, in every thread."""
    level: str = request.param
    if level.endswith(EVERYWHERE) and BEHIND_PGBOUNCER:
        pytest.skip("PgBouncer lets no client choose what its server connections begin with")
    with connected(options=_options(level)):
        with transaction.atomic():
            assert asked("default", _CURRENT[connection.vendor]) == level.removesuffix(EVERYWHERE)
        yield level


@pytest.fixture
def conflicts(isolation: str) -> bool:
    """Whether transactions of unrelated keys may seem to conflict.

    PostgreSQL's serializable transactions watch pages of the index. The victim's client gets 503,
    and its view runs again.
    """
    return connection.vendor == "postgresql" and isolation.startswith("serializable")


def statuses(replies: list[Any]) -> set[int]:
    """The statuses of the replies."""
    return {reply.status_code for reply in replies}


def fresh_keys(number: int) -> list[str]:
    """Keys that are not used yet."""
    return [uuid.uuid4().hex for _ in range(number)]


def is_settled(keys: int, *, runs: int | None = None, reruns: bool = False) -> bool:
    """Whether each key has one effect and a completed record, and no view ran more often.

    With ``reruns``, views that were rolled back may have run as well.
    """
    completed = IdempotencyRecord.objects.filter(status=Status.COMPLETED).count()
    expected = keys if runs is None else runs
    ran = effects.count() >= expected if reruns else effects.count() == expected
    return Order.objects.count() == completed == keys and ran


def test_key_is_fresh_replayed_and_refused(key: str, post: Post) -> None:
    """These replies are the same at every level."""
    first, second = post("/function/", key), post("/function/", key)
    assert Order.objects.count() == effects.count() == 1
    assert (first.status_code, second.content) == (201, first.content)
    assert second["Idempotent-Replayed"] == "true"
    assert post("/function/", key, body={"cake": "plum"}).status_code == 422
    young = UtcNow() + timedelta(seconds=10)  # young for as long as a slow machine needs
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS, claimed_at=young, **_UNANSWERED)
    assert post("/function/", key).status_code == 409
    assert effects.count() == 1


def test_failed_attempt_frees_its_key(key: str, post: Post) -> None:
    """A late release follows a rollback, another release goes beside the writes."""
    for act, status, orders in [("crash", 500, 0), ("unauthorized", 401, 1)]:
        assert post("/function/", f"{key}{act}", act=act).status_code == status
        assert Order.objects.count() == orders
        assert IdempotencyRecord.objects.latest("created_at").status == Status.RELEASED
    assert post("/function/", f"{key}crash", act="order").status_code == 201


def test_racers_have_one_effect_for_each_key(conflicts: bool) -> None:
    """16 threads race for four fresh keys, twice; a duplicate gets 409 or a replay."""
    seen: set[int] = set()
    keys = fresh_keys(8)
    for start in range(0, len(keys), 4):
        seen |= statuses(together("/function/", keys[start : start + 4] * 4))
    for key in keys:
        until_answered("/function/", key)
    assert is_settled(8, reruns=conflicts)
    assert seen <= {201, 409, 503}


def test_unrelated_keys_do_not_disturb_each_other(conflicts: bool) -> None:
    """No request gets 409, as each key is used once, and none gets 500, as no view fails."""
    keys = fresh_keys(CROWD)
    seen = statuses(together("/function/", keys))
    for key in keys:
        until_answered("/function/", key)
    assert is_settled(CROWD, reruns=conflicts)
    assert seen <= ({201, 503} if conflicts else {201})


STANDINGS: dict[str, dict[str, Any]] = {
    "dead": {"status": Status.IN_PROGRESS, "claimed_at": UtcNow() - DAY, **_UNANSWERED},
    "released": {"status": Status.RELEASED, **_UNANSWERED},
    "expired": {"expires_at": UtcNow() - DAY},
}


def test_racers_for_records_that_may_be_taken_have_one_effect_each(conflicts: bool) -> None:
    """The guarded UPDATE has one winner; the others get 409 or a replay."""
    keys = fresh_keys(2 * len(STANDINGS))
    together("/function/", keys)
    for key, standing in zip(keys, [*STANDINGS.values()] * 2, strict=True):
        IdempotencyRecord.objects.filter(key=key).update(**standing)
    Order.objects.all().delete()
    began = effects.count()
    seen = statuses(together("/function/", keys * 3))
    for key in keys:
        until_answered("/function/", key)
    assert is_settled(len(keys), runs=began + len(keys), reruns=conflicts)
    assert seen <= {201, 409, 503}


def test_waiters_get_the_first_reply(key: str, settings: Settings) -> None:
    """A waiter is woken, reads what was committed meanwhile, and replays it."""
    settings.IDEMPOTENCY_WAIT = timedelta(seconds=20)
    settings.IDEMPOTENCY_MAX_WAITERS = 5
    replies = together("/function/?act=slow", [key] * 6)
    assert Order.objects.count() == effects.count() == 1
    assert statuses(replies) == {201}
    assert len({reply.content for reply in replies}) == 1


def test_cleanups_beside_each_other_and_beside_requests_succeed(
    post: Post, conflicts: bool, isolation: str
) -> None:
    """Four commands delete the same 240 records in small batches; none of them fails."""
    post("/function/", uuid.uuid4().hex)
    (old,) = IdempotencyRecord.objects.all()
    IdempotencyRecord.objects.update(expires_at=UtcNow() - DAY)
    old.expires_at -= 3 * DAY
    rows = []
    for _ in range(240):
        old.pk = uuid.uuid4()
        rows.append(IdempotencyRecord(**{f.name: getattr(old, f.name) for f in old._meta.fields}))
    IdempotencyRecord.objects.bulk_create(rows)

    keys = fresh_keys(20)

    def clean() -> None:
        call_command("cleanup_idempotency", batch_size=10, stdout=StringIO())

    with ThreadPoolExecutor(1) as pool:
        cleaned = in_thread(pool, lambda: race(clean, 4))
        replies = [send("/function/", key) for key in keys]
        cleaned.result()
    call_command("cleanup_idempotency", stdout=StringIO())
    for key in keys:
        until_answered("/function/", key)
    assert IdempotencyRecord.objects.count() == 20
    assert Order.objects.count() == 21
    refused = {503} if conflicts else set()
    if connection.vendor == "mysql" and isolation in ("repeatable read", "serializable"):
        # The clean-up locks the gaps of an index into which fresh keys go.
        refused.add(409)
    assert statuses(replies) <= {201} | refused


def test_views_that_are_not_serializable_fail_alone(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two views that each read what the other writes, one may fail; its retry succeeds."""
    meeting = Barrier(2)
    monkeypatch.setattr(views, "meet", lambda: meeting.wait(10))
    keys = [f"{key}1", f"{key}2"]
    seen = statuses(together("/look-twice/", keys))
    monkeypatch.undo()
    assert Order.objects.count() == (2 if seen == {201} else 1)
    assert seen in ({201}, {201, 500}, {201, 503})
    for each in keys:
        assert until_answered("/look-twice/", each).json()["nonce"]
    assert is_settled(2, reruns=True)


def test_joined_claim_behind_its_snapshot_runs_nothing(key: str, isolation: str) -> None:
    """A transaction older than the first reply cannot see it: it gets 503, later the replay."""
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert not Session.objects.exists()
            first = in_thread(pool, lambda: send("/function/", key)).result()
            reply = send("/function/", key)
        again = send("/function/", key)
    assert Order.objects.count() == effects.count() == 1
    assert (first.status_code, again.content) == (201, first.content)
    # MariaDB and MySQL read without a snapshot when they are serializable: they lock.
    locks = connection.vendor == "mysql" and isolation == "serializable"
    sees = locks or isolation.startswith("read ")
    assert reply.status_code == (201 if sees else 503)
