"""Expire, release, delete: confirmed first, done in batches, refused for live owners."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client

from django_idempotency.admin import actions
from django_idempotency.maintenance.records import Released
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.storage.records import Store
from tests.app import effects
from tests.conftest import Post

from . import LIST, UNANSWERED, act, made, page_of, running, told

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

PAST = datetime.now(UTC) - timedelta(hours=1)
MATCHING = f"{LIST}?status__exact=completed"


@pytest.fixture
def stuck() -> IdempotencyRecord:
    """A record in progress, claimed a minute ago."""
    return running("stuck")


@pytest.fixture
def owner(admin: Client, stuck: IdempotencyRecord) -> Iterator[BaseDatabaseWrapper]:
    """Another connection that holds the record, as the running view does.

    The login comes first: on SQLite the view holds the whole database.
    """
    other = connection.copy()
    other.set_autocommit(False)
    with mock.patch.object(Store, "connection", other):
        assert Store("default").lock(stuck.pk, stuck.token, wait=None)
    yield other
    other.rollback()
    other.close()


def expired() -> set[str]:
    """The keys of the expired records."""
    return {record.key for record in IdempotencyRecord.objects.all().expired()}


def test_expired_key_runs_anew(admin: Client, key: str, post: Post) -> None:
    """The effect happens once more, and the log says who expired the key."""
    post("/function/", key)
    response = act(admin, "expire", IdempotencyRecord.objects.get())
    assert told(response) == ["1 key expired."]
    assert "Idempotent-Replayed" not in post("/function/", key)
    assert effects.count() == 2
    assert LogEntry.objects.get().change_message == "Expired."


def test_running_record_is_not_expired(admin: Client, stuck: IdempotencyRecord) -> None:
    """Only a takeover changes a record in progress."""
    response = act(admin, "expire", stuck)
    assert told(response) == ["1 was left alone. In progress, or expired already."]
    assert IdempotencyRecord.objects.get().expires_at == stuck.expires_at
    assert not LogEntry.objects.exists()


@pytest.mark.usefixtures("atomic_requests")
def test_stuck_key_is_released(admin: Client, stuck: IdempotencyRecord) -> None:
    """Its owner is dead."""
    assert told(act(admin, "release", stuck)) == ["1 key released."]
    stuck.refresh_from_db()
    assert (stuck.status, stuck.error) == (Status.RELEASED, "ReleasedByHand")


@pytest.mark.usefixtures("owner")
def test_live_owner_keeps_its_key(admin: Client, stuck: IdempotencyRecord) -> None:
    """The message gives the reason."""
    (message,) = told(act(admin, "release", stuck))
    assert message == f"1 was left alone. {Released.ALIVE.label}"
    stuck.refresh_from_db()
    assert stuck.status == Status.IN_PROGRESS
    assert not LogEntry.objects.exists()


def test_reasons_are_counted(admin: Client, stuck: IdempotencyRecord) -> None:
    """Each reason has its own count."""
    later = stuck.expires_at
    trusted = [running(f"t{n}", atomic=False, lease_expires_at=later) for n in range(2)]
    response = act(admin, "release", stuck, made("done"), *trusted)
    assert set(told(response)) == {
        "1 key released.",
        f"1 was left alone. {Released.FINISHED.label}",
        f"2 were left alone. {Released.TRUSTED.label}",
    }


def test_only_what_is_expired_is_deleted(admin: Client, stuck: IdempotencyRecord) -> None:
    """Live and running records stay, and the message says so."""
    over, live = made("over", expires_at=PAST), made("live")
    response = act(admin, "delete_selected", over, live, stuck)
    assert set(IdempotencyRecord.objects.all()) == {live, stuck}
    done, left = told(response)
    assert done == "1 record deleted."
    assert left.startswith("2 were left alone.")
    assert LogEntry.objects.get().object_id == str(over.pk)


@pytest.mark.parametrize("action", ["expire", "release", "delete_selected"])
def test_nothing_is_done_before_the_confirmation(admin: Client, action: str) -> None:
    """The page names the records and the consequences."""
    records = [made("live"), running("stuck"), made("over", expires_at=PAST)]
    before = list(IdempotencyRecord.objects.order_by("pk").values())
    chosen = [str(record.pk) for record in records]
    response: Any = admin.post(LIST, {"action": action, "_selected_action": chosen, "index": "0"})
    page = response.content.decode()
    assert all(record.key in page for record in records)
    assert str(response.context["action"].consequence) in page
    assert list(IdempotencyRecord.objects.order_by("pk").values()) == before
    assert not LogEntry.objects.exists()


def _confirmed(client: Client, page: Any, url: str) -> Any:
    """Send what the confirmation page sends."""
    context = page.context
    sent = {
        "action": context["action"].name,
        "_selected_action": context["selected"],
        "select_across": "1" if context["is_all"] else "0",
        "post": "yes",
    }
    sent |= {"after": str(context["after"])} if context["after"] else {}
    return client.post(url, sent, follow=True)


def test_all_matching_are_done_in_batches(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those on other pages; records that the filter hides stay as they are."""
    monkeypatch.setattr(actions, "BATCH", 2)
    records = [made(f"key-{number}") for number in range(5)]
    made("hidden", status=Status.RELEASED, **UNANSWERED)
    asked = {"action": "expire", "_selected_action": [str(records[0].pk)], "index": "0"}
    page = admin.post(MATCHING, asked | {"select_across": "1"})
    assert "All matching records" in page.content.decode()
    assert told(_confirmed(admin, page, MATCHING)) == ["5 keys expired."]
    assert expired() == {record.key for record in records}
    assert LogEntry.objects.count() == 5


def test_long_work_asks_whether_to_go_on(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request must not take forever; the next one continues."""
    monkeypatch.setattr(actions, "BATCH", 2)
    monkeypatch.setattr(actions, "PATIENCE_SECONDS", -1.0)
    records = [made(f"key-{number}") for number in range(5)]
    page = act(admin, "expire", records[0], url=MATCHING, select_across="1")
    assert "Go on?" in page.content.decode()
    assert told(page) == ["2 keys expired."]
    page = _confirmed(admin, page, MATCHING)
    assert told(page) == ["2 keys expired."]
    assert told(_confirmed(admin, page, MATCHING)) == ["1 key expired."]
    assert len(expired()) == 5


def test_button_leads_back_to_the_record(admin: Client) -> None:
    """The list's action leads back to the list with its filters."""
    record = made()
    page = act(admin, "expire", record, _record="1")
    assert page.redirect_chain[-1][0] == page_of(record)
    page = act(admin, "delete_selected", record, _record="1")
    assert page.redirect_chain[-1][0] == LIST
    assert act(admin, "expire", made("b"), url=MATCHING).redirect_chain[-1][0] == MATCHING
