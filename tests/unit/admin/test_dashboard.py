"""The dashboard: who may see it, and whether its numbers match what happened."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import Settings

from django_idempotency.models import IdempotencyCount, IdempotencyRecord, Status
from django_idempotency.monitoring import counts
from django_idempotency.monitoring.figures import PERIODS, figures, series
from tests.conftest import Post, staff

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PAGE = reverse("admin:django_idempotency_idempotencycount_changelist")


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    """Each test starts with no counts."""
    counts._tally.forget()


@pytest.fixture
def operator() -> Client:
    """A client whose user may see the dashboard and nothing else."""
    client = Client()
    client.force_login(staff("view_idempotencycount"))
    return client


def play(post: Post, key: str) -> None:
    """Two orders, one of them sent three times, one key for two requests, and a crash."""
    for _ in range(3):
        post("/function/", key)
    post("/function/", key, body={"cake": "carrot"})
    post("/function/", key + "2")
    post("/function/", key + "3", act="crash")
    counts.flush()


def tiles(page: Any) -> dict[str, str]:
    """The large numbers, by measure."""
    return {tile["measure"].name: tile["number"] for tile in page.context["tiles"]}


def chart(page: Any) -> dict[str, list[int]]:
    """The data of the charts, by measure."""
    found = re.search(r'id="idempotency-chart"[^>]*>(.+?)</script>', page.content.decode())
    assert found
    measures: dict[str, list[int]] = json.loads(found[1])["measures"]
    return measures


PLAYED = {
    "protected": 3,
    "replayed": 2,
    "conflicted": 0,
    "mismatched": 1,
    "failed": 1,
    "taken_over": 0,
}


@pytest.mark.parametrize("period", PERIODS)
def test_numbers_are_those_of_what_happened(
    period: str, operator: Client, post: Post, key: str
) -> None:
    """In the tiles, in the table, and in the charts."""
    play(post, key)
    page = operator.get(PAGE, {"period": period})
    assert tiles(page) == {name: str(number) for name, number in PLAYED.items()}
    assert {name: sum(bars) for name, bars in chart(page).items()} == PLAYED
    (step,) = page.context["steps"]
    assert step["numbers"] == [str(number) for number in PLAYED.values()]
    assert "Completed" in page.content.decode()
    rows = {row.name: row.value for row in page.context["rows"]}
    assert (rows["completed"], rows["released"]) == ("2", "1")
    assert rows["next_expiry"] == "in 1\xa0day"


def test_figures_and_charts_agree_about_every_period() -> None:
    """They read the same rows, even those of a process whose clock is ahead."""
    now = timezone.now().replace(second=0, microsecond=0)
    for minutes in (-1, 0, 1, 30, 58, 61, 300, 1438, 1441, 8000, 10_078, 10_081):
        IdempotencyCount.objects.create(
            minute=now - timedelta(minutes=minutes), event="replayed", count=1
        )
    found = figures("default").events["replayed"]
    assert (found.hour, found.day, found.week) == (5, 8, 11)
    for name, period in PERIODS.items():
        assert sum(series("default", period).of(["replayed"])) == getattr(found, name)


def test_takeover_counts_as_a_protected_request(operator: Client) -> None:
    """Because a view ran under the key."""
    counts.count("taken_over", "default")
    counts.flush()
    shown = tiles(operator.get(PAGE))
    assert (shown["protected"], shown["taken_over"]) == ("1", "1")


def test_steps_are_in_order_and_as_many_as_the_chart_needs() -> None:
    """An hour in minutes, a day in quarters of an hour, a week in hours; the latest is last."""
    counts.count("replayed", "default")
    counts.flush()
    for name, steps in (("hour", {60}), ("day", {96, 97}), ("week", {168, 169})):
        found = series("default", PERIODS[name])
        assert len(found.times) in steps
        assert found.times == sorted(found.times)
        assert sum(found.of(["replayed"])[-2:]) == 1


def test_nothing_happened_is_said_in_words(operator: Client) -> None:
    """Without any row in the table."""
    page = operator.get(PAGE, {"period": "nonsense"}).content.decode()
    assert "Nothing happened to a key in the last hour." in page
    assert "Oldest in progress" in page
    assert "a little too low" in page


def test_switched_off_is_said_in_words(operator: Client, settings: Settings) -> None:
    """The page names the setting."""
    assert "switched off" not in operator.get(PAGE).content.decode()
    settings.IDEMPOTENCY_STATISTICS = False
    assert "IDEMPOTENCY_STATISTICS is False" in operator.get(PAGE).content.decode()


def test_oldest_in_progress_is_shown(operator: Client, post: Post, key: str) -> None:
    """With the number of records beyond their lease."""
    post("/function/", key, act="unauthorized")
    then = timezone.now() - timedelta(hours=3)
    IdempotencyRecord.objects.update(
        status=Status.IN_PROGRESS, attempts=1, claimed_at=then, lease_expires_at=then
    )
    rows = {row.name: row.value for row in operator.get(PAGE).context["rows"]}
    assert (rows["in_progress"], rows["stale"]) == ("1", "1")
    assert rows["oldest_in_progress"] == "3\xa0hours ago"


@pytest.mark.parametrize("permission", ["view_idempotencyrecord", "add_idempotencycount"])
def test_other_permissions_do_not_open_it(permission: str) -> None:
    """The dashboard needs a permission of its own."""
    client = Client()
    client.force_login(staff(permission))
    assert client.get(PAGE).status_code == 403


def test_stranger_is_sent_to_the_login() -> None:
    """As everywhere in the admin."""
    assert Client().get(PAGE).status_code == 302


def test_nobody_adds_changes_or_deletes_counts() -> None:
    """Even for a superuser, there are no such pages."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    row = IdempotencyCount.objects.create(minute=timezone.now(), event="claimed", count=1)
    for path in ("add/", f"{row.pk}/change/", f"{row.pk}/delete/"):
        assert client.get(PAGE + path).status_code == 404
    index = client.get(reverse("admin:index")).content.decode()
    assert PAGE in index
    assert f"{PAGE}add/" not in index


def test_figures_lead_to_the_records_of_those_who_may_list_them(operator: Client) -> None:
    """Every such link opens the list."""
    assert "status__exact" not in operator.get(PAGE).content.decode()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    links = re.findall(
        r'href="([^"]+idempotencyrecord/\?[^"]+)"', client.get(PAGE).content.decode()
    )
    assert len(links) == 5
    for link in links:
        assert client.get(link).status_code == 200


def test_queries_do_not_grow_with_the_counts(operator: Client) -> None:
    """There are ten at most, whatever happened."""

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            operator.get(PAGE, {"period": "week"})
        return len(captured)

    before = queries()
    now = timezone.now().replace(second=0, microsecond=0)
    IdempotencyCount.objects.bulk_create(
        IdempotencyCount(minute=now - timedelta(minutes=age), event=event, count=1)
        for age in range(500)
        for event in ("claimed", "replayed")
    )
    assert queries() == before <= 10


def test_page_holds_no_inline_script_or_style(operator: Client) -> None:
    """It obeys a Content-Security-Policy of ``default-src 'self'``."""
    page = operator.get(PAGE).content.decode()
    scripts = re.findall(r"<script[^>]*>", page)
    assert all("src=" in tag or 'type="application/json"' in tag for tag in scripts)
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|//cdn", page)
