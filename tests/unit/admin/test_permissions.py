"""Which permission lets a user see and do what."""

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_idempotency.models import IdempotencyRecord, UtcNow

from . import LIST, act, client_of, made, page_of, running

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

VIEW = "view_idempotencyrecord"
ACTIONS = {"expire": "expire", "release": "release", "delete_selected": "delete_idempotencyrecord"}


def test_without_permission_nothing_is_seen() -> None:
    """Neither the list nor a record."""
    client, record = client_of("expire"), made()
    assert client.get(LIST).status_code == 403
    assert client.get(page_of(record)).status_code == 403
    assert "dempotency records" not in client_of().get("/admin/").content.decode()


def test_viewer_sees_records_and_no_response() -> None:
    """Stored responses need another permission."""
    client, record = client_of(VIEW), made()
    assert b"user:1" in client.get(LIST).content
    page = client.get(page_of(record)).content.decode()
    assert "/orders/" in page
    assert "X-Oven" not in page
    assert "lemon" not in page
    assert client.get(page_of(record) + "?response=1").status_code == 403
    assert not LogEntry.objects.exists()


def test_seen_response_is_in_the_log() -> None:
    """Only if the user asked for it."""
    client, record = client_of(VIEW, "view_response"), made()
    assert "lemon" not in client.get(page_of(record)).content.decode()
    assert not LogEntry.objects.exists()
    assert "lemon" in client.get(page_of(record) + "?response=1").content.decode()
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.change_message) == (
        str(record.pk),
        "Looked at the stored response.",
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_action_needs_its_own_permission(action: str) -> None:
    """All other permissions are not enough."""
    others = [permission for name, permission in ACTIONS.items() if name != action]
    finished, stuck = made("finished"), running("stuck")
    expired = made("expired", expires_at=finished.created_at)
    client = client_of(VIEW, *others)
    act(client, action, finished, stuck, expired)
    for record in (finished, stuck, expired):
        record.refresh_from_db()
    assert stuck.status == "in_progress"
    assert not IdempotencyRecord.objects.filter(key="finished", expires_at__lte=UtcNow()).exists()
    assert not LogEntry.objects.exists()
    assert f'value="{action}"' not in client.get(LIST).content.decode()


@pytest.mark.parametrize("action", ACTIONS)
def test_action_is_in_the_log(action: str) -> None:
    """With the user, the action and the record."""
    record = {
        "expire": made,
        "release": running,
        "delete_selected": lambda: made(expires_at=made("other").created_at),
    }[action]()
    act(client_of(VIEW, ACTIONS[action]), action, record)
    entry = LogEntry.objects.get()
    assert entry.object_id == str(record.pk)
    assert entry.is_deletion() == (action == "delete_selected")
    assert "user:1" in entry.object_repr


@pytest.mark.parametrize("path", ["add/", "{}/delete/"])
def test_nothing_is_added_or_deleted_by_django(admin: Client, path: str) -> None:
    """Records have no form, and Django's delete would not check what is live."""
    record = made()
    admin.post(LIST + path.format(record.pk), {"post": "yes"})
    assert IdempotencyRecord.objects.get() == record


def test_record_is_not_changed_by_a_form(admin: Client) -> None:
    """The record's page has no form."""
    record = made()
    assert admin.post(page_of(record), {"key": "mine"}).status_code == 403
    assert IdempotencyRecord.objects.get().key == "key"


@pytest.mark.parametrize("lookup", ["response_body__startswith", "scope__startswith", "key"])
def test_url_narrows_by_filters_only(lookup: str) -> None:
    """Otherwise a viewer could guess a response letter by letter."""
    made()
    assert client_of(VIEW).get(LIST, {lookup: "{"}).status_code == 400
