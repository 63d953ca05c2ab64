"""Clocks and time zones: the database's clock decides, in UTC, for every process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord, Status
from tests.app import effects
from tests.app.models import Order
from tests.support.servers import ServerUnavailableError, shifted_clock

from .connecting import connected
from .crowd import ask

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RUN, REPLAY, CONFLICT = [201, False], [201, True], [409, False]
_UNANSWERED = dict.fromkeys(
    ["response_status", "response_headers", "response_body", "completed_at"]
)


class Clerk:
    """A process with a clock of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def call(self, name: str, *arguments: str) -> Any:
        """What a function of :mod:`tests.faults.clerk` returns there."""
        assert self._process.stdin
        assert self._process.stdout
        print(json.dumps([name, *arguments]), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def send(self, path: str, key: str) -> Any:
        """Status, and whether it was a replay."""
        return self.call("send", path, key, str(effects.log()))


@pytest.fixture(scope="module", params=["-6h", "+6h"])
def clerk(request: pytest.FixtureRequest, django_db_setup: None) -> Iterator[Clerk]:
    """An application process whose clock is six hours off the database's."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no clock but that of the process")
    try:
        shifted = shifted_clock(request.param)
    except ServerUnavailableError as error:
        pytest.skip(str(error))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.clerk"],
        env=os.environ | shifted | {"DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        clerk = Clerk(process)
        assert abs(clerk.call("clock") - time.time()) > 5 * 3600
        yield clerk
    finally:
        process.kill()
        process.communicate()


def is_about(moment: datetime, ago: timedelta) -> bool:
    """Whether a time was so long ago, give or take a minute."""
    return abs(timezone.now() - moment - ago) < MINUTE


def was_claimed_now() -> bool:
    """Whether the only record has the times of a claim that was made just now, in UTC."""
    record = IdempotencyRecord.objects.get()
    return (
        is_about(record.claimed_at, timedelta())
        and is_about(record.created_at, timedelta())
        and is_about(record.lease_expires_at, -MINUTE)
        and is_about(record.expires_at, -(DAY + MINUTE))
    )


def make(**values: Any) -> None:
    """Change the only record."""
    assert IdempotencyRecord.objects.update(**values) == 1


def in_progress(claimed: timedelta) -> dict[str, Any]:
    """The values of a claim of this age."""
    return _UNANSWERED | {
        "status": Status.IN_PROGRESS,
        "claimed_at": timezone.now() - claimed,
        "lease_expires_at": timezone.now() - claimed + MINUTE,
        "expires_at": timezone.now() - claimed + DAY + MINUTE,
    }


def completed(expired: timedelta) -> dict[str, Any]:
    """The values of a response that expired so long ago."""
    return {"expires_at": timezone.now() - expired}


# In the future, so that on a slow machine, too, the claim is young when its key is asked for.
JUST_NOW = timedelta(seconds=-10)
#: By the name of a case: the door, the values of the row, and what the next request gets.
STANDINGS: dict[str, tuple[str, Callable[[], dict[str, Any]], list[Any]]] = {
    "kept": ("/function/", lambda: completed(-HOUR), REPLAY),
    "expired": ("/function/", lambda: completed(HOUR), RUN),
    "young": ("/function/", lambda: in_progress(JUST_NOW), CONFLICT),
    "dead": ("/function/", lambda: in_progress(MINUTE), RUN),
    "leased": ("/plainly/", lambda: in_progress(JUST_NOW), CONFLICT),
    "lease-over": ("/plainly/", lambda: in_progress(HOUR), RUN),
}


def build(key: str) -> None:
    """A record for each case, whose key is ``key`` and the name of the case."""
    for name, (path, values, _) in STANDINGS.items():
        assert ask(path, key + name).status_code == 201
        found = IdempotencyRecord.objects.filter(key=key + name)
        assert found.update(**values()) == 1


def judged(key: str, send: Callable[[str, str], Any]) -> dict[str, Any]:
    """What a request gets, by case."""
    return {name: send(path, key + name) for name, (path, _, _) in STANDINGS.items()}


EXPECTED = {name: expected for name, (_, _, expected) in STANDINGS.items()}
RUNS = len(STANDINGS) + list(EXPECTED.values()).count(RUN)


@pytest.mark.parametrize("path", ["/function/", "/plainly/"])
def test_claim_of_a_process_with_another_clock_has_the_database_s_times(
    path: str, clerk: Clerk, key: str
) -> None:
    """Claim, lease and retention are in the database's time; every other process replays it."""
    assert clerk.send(path, key) == RUN
    assert Order.objects.count() == effects.count() == 1
    assert was_claimed_now()
    record = IdempotencyRecord.objects.get()
    assert record.completed_at
    assert is_about(record.completed_at, timedelta())
    assert clerk.send(path, key) == REPLAY
    assert ask(path, key)["Idempotent-Replayed"] == "true"
    assert effects.count() == 1


def test_process_with_another_clock_judges_records_by_the_database_s(
    clerk: Clerk, key: str
) -> None:
    """A clock six hours off lets nothing expire early or late, and takes over no live claim."""
    build(key)
    judgement = judged(key, clerk.send)
    assert Order.objects.count() == effects.count() == RUNS
    assert judgement == EXPECTED


def test_questions_and_cleanup_from_another_clock_use_the_database_s(
    clerk: Clerk, key: str
) -> None:
    """One record expired an hour ago, and one expires in an hour."""
    assert clerk.send("/function/", key) == RUN
    make(**completed(-HOUR))
    assert clerk.call("questions") == [0, 0]
    assert "0 expired" in clerk.call("clean")
    make(**completed(HOUR))
    assert clerk.call("questions") == [1, 0]
    assert "1 expired" in clerk.call("clean")
    assert clerk.send("/function/", key) == RUN
    make(**in_progress(HOUR))
    assert clerk.call("questions") == [0, 1]


@contextmanager
def _of_django() -> Iterator[None]:
    """``DATABASES["default"]["TIME_ZONE"]`` is set."""
    with connected(TIME_ZONE="America/Chicago"):
        yield


@contextmanager
def _of_the_session() -> Iterator[None]:
    """Each connection to MariaDB or MySQL sets its time zone."""
    with connected(options={"init_command": "SET time_zone = '-06:00'"}):
        yield


@contextmanager
def _of_the_server() -> Iterator[None]:
    """The server's default for every new connection to MariaDB or MySQL."""
    with connected(), connection.cursor() as cursor:
        cursor.execute("SET GLOBAL time_zone = '-06:00'")
        try:
            connection.close()
            yield
        finally:
            with connection.cursor() as again:
                again.execute("SET GLOBAL time_zone = 'SYSTEM'")


@contextmanager
def _of_the_database() -> Iterator[None]:
    """The default of a PostgreSQL database, which Django changes for its connections."""
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with connected(), connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'America/Chicago'")
        try:
            connection.close()
            yield
        finally:
            with connection.cursor() as again:
                again.execute(f"ALTER DATABASE {name} RESET timezone")


Zone = Callable[[], AbstractContextManager[None]]
ZONES: dict[str, dict[str, Zone]] = {
    "sqlite": {"django": _of_django},
    "postgresql": {"django": _of_django, "database": _of_the_database},
    "mysql": {"django": _of_django, "session": _of_the_session, "server": _of_the_server},
}


@pytest.fixture(params=list(ZONES[connection.vendor].items()), ids=lambda item: item[0])
def chicago(request: pytest.FixtureRequest) -> Zone:
    """A context in which the time zone of new connections is six hours behind UTC."""
    zone: Zone = request.param[1]
    return zone


def test_claim_made_in_another_zone_has_times_in_utc(chicago: Zone, key: str) -> None:
    """The columns hold UTC, so that every session understands them alike."""
    with chicago():
        assert ask("/function/", key).status_code == 201
    assert was_claimed_now()
    assert ask("/function/", key)["Idempotent-Replayed"] == "true"


def test_session_in_another_zone_judges_records_by_utc(chicago: Zone, key: str) -> None:
    """Retention, grace and lease are not six hours longer or shorter."""

    def send(path: str, key: str) -> list[Any]:
        reply = ask(path, key)
        return [reply.status_code, "Idempotent-Replayed" in reply]

    build(key)
    with chicago():
        judgement = judged(key, send)
    assert effects.count() == RUNS
    assert judgement == EXPECTED


def test_questions_and_cleanup_in_another_zone_use_utc(chicago: Zone, key: str) -> None:
    """``expired()``, ``stale()`` and the command agree."""
    records = IdempotencyRecord.objects
    for values, expired, stale in [
        (completed(-HOUR), 0, 0),
        (in_progress(JUST_NOW), 0, 0),
        (in_progress(HOUR), 0, 1),
        (completed(HOUR) | _UNANSWERED | {"status": Status.RELEASED}, 1, 0),
    ]:
        records.all().delete()
        ask("/function/", key)
        make(**values)
        with chicago():
            assert (records.expired().count(), records.stale().count()) == (expired, stale)
            call_command("cleanup_idempotency", stdout=StringIO())
        assert records.count() == 1 - expired


def test_times_are_read_back_as_they_were_in_another_zone(chicago: Zone, key: str) -> None:
    """The admin shows the true time."""
    with chicago():
        if connection.vendor != "postgresql" and connection.timezone_name != "UTC":
            pytest.skip("the columns are in UTC, which TIME_ZONE denies: see the documentation")
        ask("/function/", key)
        assert was_claimed_now()
        around_now = (timezone.now() - MINUTE, timezone.now() + MINUTE)
        assert IdempotencyRecord.objects.filter(claimed_at__range=around_now).exists()
