"""What each request reports: as signals, in the log, to the metrics. Reporting breaks nothing."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test import AsyncClient
from pytest_django import Settings

from django_idempotency import signals
from django_idempotency.maintenance import records as maintenance
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.monitoring.events import Event, Kind
from django_idempotency.storage.upkeep import Upkeep
from django_idempotency.testing import age_records
from tests.app import effects
from tests.app.models import Order
from tests.app.urls import served
from tests.conftest import Post, atomic_requests_on
from tests.support.refusals import in_progress

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DOORS = [*served("/function/", "/mixin/"), "/plainly/"]


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """Every event, as receivers get it."""
    told: list[Event] = []

    def receive(sender: Any, event: Event, **kwargs: Any) -> None:
        assert sender is IdempotencyRecord
        told.append(event)

    for kind in Kind:
        getattr(signals, kind).connect(receive, dispatch_uid="test")
    yield told
    for kind in Kind:
        getattr(signals, kind).disconnect(dispatch_uid="test")


def kinds(events: list[Event]) -> list[str]:
    """Their names, in order."""
    return [event.kind.value for event in events]


def repeated(post: Post, door: str, key: str) -> None:
    """An order, and its repetition."""
    post(door, key)
    post(door, key)


def another(post: Post, door: str, key: str) -> None:
    """An order, and another with its key."""
    post(door, key)
    post(door, key, body={"cake": "carrot"})


def dead(post: Post, door: str, key: str) -> None:
    """An order whose worker died, and its retry."""
    post(door, key, act="unauthorized")
    records = IdempotencyRecord.objects.filter(status=Status.RELEASED)
    records.update(status=Status.IN_PROGRESS, attempts=1)
    age_records(timedelta(hours=1))
    post(door, key, act="unauthorized")


def after_a_day(post: Post, door: str, key: str) -> None:
    """An order, and the same key two days later."""
    post(door, key)
    age_records(timedelta(days=2))
    post(door, key)


SCENES: dict[str, tuple[Callable[[Post, str, str], Any], list[str]]] = {
    "repeated": (repeated, ["claimed", "completed", "replayed"]),
    "another": (another, ["claimed", "completed", "mismatched"]),
    "running": (in_progress, ["claimed", "completed", "conflicted"]),
    "dead": (dead, ["claimed", "released", "taken_over", "released"]),
    "expired": (after_a_day, ["claimed", "completed", "expired", "claimed", "completed"]),
    "crash": (lambda p, d, k: p(d, k, act="crash"), ["claimed", "released"]),
    "503": (lambda p, d, k: p(d, k, act="unavailable"), ["claimed", "released"]),
    "401": (lambda p, d, k: p(d, k, act="unauthorized"), ["claimed", "released"]),
    "no-key": (lambda p, d, k: p(d), []),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("door", DOORS)
def test_each_request_tells_what_happened(
    scene: str, door: str, key: str, post: Post, events: list[Event]
) -> None:
    """Once, in order, with the key it happened to."""
    play, expected = SCENES[scene]
    play(post, door, key)
    assert kinds(events) == expected
    assert {event.key for event in events} <= {key}
    assert {event.record_id for event in events} <= {r.pk for r in IdempotencyRecord.objects.all()}


def test_hook_that_raises_changes_nothing_of_what_is_told(
    key: str, post: Post, events: list[Event]
) -> None:
    """The work was committed before."""
    assert post("/function/", key, act="broken_hook").status_code == 500
    assert kinds(events) == ["claimed", "completed"]


def test_async_view_tells_as_well(key: str, events: list[Event]) -> None:
    """From whatever thread."""
    send = partial(async_to_sync(AsyncClient().post), "/async-function/")
    for _ in range(2):
        send(headers={"Idempotency-Key": key})
    assert kinds(events) == ["claimed", "completed", "replayed"]


def test_event_says_who_and_what(key: str, post: Post, events: list[Event]) -> None:
    """Enough for a log line, a metric and an alarm."""
    post("/function/", key, act="crash")
    claimed, released = events
    assert (claimed.scope, claimed.method, claimed.path) == ("anonymous", "POST", "/function/")
    assert (claimed.using, claimed.attempt, claimed.status) == ("default", 1, None)
    assert (released.error, released.name, released.attempt) == ("RuntimeError", "failed", 1)
    assert claimed.key_hash not in key


def test_event_has_the_status_of_the_response(key: str, post: Post, events: list[Event]) -> None:
    """Of the first reply, and of the replay."""
    repeated(post, "/function/", key)
    assert [event.status for event in events] == [None, 201, 201]


def test_what_people_do_is_told(key: str, post: Post, events: list[Event]) -> None:
    """Of what was done, not of what was refused."""
    post("/function/", key)
    post("/function/", key + "2", act="unauthorized")
    done, free = IdempotencyRecord.objects.order_by("key")
    age_records(timedelta(hours=1), pk=free.pk)
    IdempotencyRecord.objects.filter(pk=free.pk).update(status=Status.IN_PROGRESS)
    events.clear()
    store = Upkeep("default")
    for _ in range(2):
        maintenance.expire(store, [done.pk, free.pk])
        maintenance.release(store, free.pk)
    assert [(event.name, event.key) for event in events] == [
        ("expired", key),
        ("failed", key + "2"),
        ("expired", key + "2"),
    ]


def _angry(**kwargs: Any) -> None:
    raise RuntimeError("receiver")


def _clumsy(**kwargs: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT nonsense FROM nowhere")


@pytest.mark.parametrize("receiver", [_angry, _clumsy])
@pytest.mark.parametrize("door", [*served("/function/", "/below/"), "/plainly/"])
def test_receiver_cannot_break_a_request(
    receiver: Callable[..., None], door: str, key: str, post: Post, atomic_requests: bool
) -> None:
    """Whatever it raises, and whichever statement of it fails in whose transaction."""
    for kind in Kind:
        getattr(signals, kind).connect(receiver)
    try:
        replies = [post(door, key), post(door, key), post(door, key, body={"cake": "carrot"})]
    finally:
        for kind in Kind:
            getattr(signals, kind).disconnect(receiver)
    assert [reply.status_code for reply in replies] == [201, 201, 422]
    assert effects.count() == Order.objects.count() == 1


@pytest.mark.drf
def test_joined_request_tells_when_its_transaction_has_committed(
    key: str, post: Post, events: list[Event]
) -> None:
    """And nothing at all when it is rolled back."""
    seen: list[bool] = []

    def receive(**kwargs: Any) -> None:
        seen.append(connection.in_atomic_block)

    signals.completed.connect(receive)
    with atomic_requests_on("default"):
        post("/below/", key)
        post("/below/", key + "2", act="homeless")
    signals.completed.disconnect(receive)
    assert seen == [False]
    assert kinds(events)[:2] == ["claimed", "completed"]
    assert "completed" not in kinds(events)[2:]


def test_test_case_tells_when_its_hooks_run(key: str, post: Post, events: list[Event]) -> None:
    """In a transaction of the test's own, as ``on_commit`` does."""
    with transaction.atomic():
        post("/function/", key)
        assert events == []
    assert kinds(events) == ["claimed", "completed"]


@pytest.mark.parametrize("shown", [True, False], ids=["keys", "hashes"])
def test_log_shows_a_key_only_if_asked_to(
    shown: bool, key: str, post: Post, caplog: pytest.LogCaptureFixture, settings: Settings
) -> None:
    """The key of an anonymous caller is a secret."""
    settings.IDEMPOTENCY_LOG_KEYS = shown
    caplog.set_level(logging.DEBUG, "django_idempotency.events")
    repeated(post, "/function/", key)
    extras = [vars(record)["idempotency"] for record in caplog.records if "events" in record.name]
    assert [extra["kind"] for extra in extras] == ["claimed", "completed", "replayed"]
    assert all((key in repr(extra)) == shown for extra in extras)
    assert len({extra["key"] for extra in extras}) == 1


def test_log_is_silent_about_what_every_request_does(
    key: str, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    """Replays at INFO; failures and takeovers at WARNING."""
    caplog.set_level(logging.INFO, "django_idempotency.events")
    repeated(post, "/function/", key)
    dead(post, "/plainly/", key + "2")
    post("/function/", key + "3", act="crash")
    said = [
        (record.levelname, vars(record)["idempotency"]["kind"])
        for record in caplog.records
        if record.name == "django_idempotency.events"
    ]
    assert said == [("INFO", "replayed"), ("WARNING", "taken_over"), ("WARNING", "released")]


def test_prometheus_counts(key: str, post: Post) -> None:
    """In the client's default registry."""
    client: Any = pytest.importorskip("prometheus_client")

    def value(event: str) -> float:
        labels = {"event": event, "method": "POST"}
        name = "django_idempotency_events_total"
        return client.REGISTRY.get_sample_value(name, labels) or 0.0

    before = {event: value(event) for event in ("claimed", "completed", "replayed", "failed")}
    repeated(post, "/function/", key)
    post("/function/", key + "2", act="crash")
    grown = {event: value(event) - count for event, count in before.items()}
    assert grown == {"claimed": 2.0, "completed": 1.0, "replayed": 1.0, "failed": 1.0}


@pytest.fixture(scope="module")
def spans() -> Any:
    """What the SDK of OpenTelemetry exports; its provider can be set once in a process."""
    sdk: Any = pytest.importorskip("opentelemetry.sdk.trace")
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_opentelemetry_gets_a_span_for_each_request(spans: Any, key: str, post: Post) -> None:
    """With what happened in it, and no key."""
    spans.clear()
    repeated(post, "/function/", key)
    first, again = spans.get_finished_spans()
    assert [event.name for event in first.events] == [
        "idempotency.claimed",
        "idempotency.completed",
    ]
    assert [event.name for event in again.events] == ["idempotency.replayed"]
    assert again.attributes["idempotency.event"] == "replayed"
    assert key not in first.to_json() + again.to_json()
