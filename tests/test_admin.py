"""The records in the admin: to look at and to expire; and the command that cleans them up."""

from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from django_idempotency.models import IdempotencyRecord, Status, UtcNow
from tests.app import effects
from tests.conftest import Post, staff

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

LIST = reverse("admin:django_idempotency_idempotencyrecord_changelist")


@pytest.fixture
def admin() -> Client:
    """A superuser's client."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


def test_list_and_detail_show_no_body(admin: Client, key: str, post: Post) -> None:
    """They open, and the stored response is not in them."""
    first = post("/function/", key)
    record = IdempotencyRecord.objects.get()
    detail = reverse("admin:django_idempotency_idempotencyrecord_change", args=[record.pk])
    assert key[:20].encode() in admin.get(LIST).content
    page = admin.get(detail).content
    assert key.encode() in page
    nonce = first.json()["nonce"]
    assert nonce.encode() not in page


def test_expired_key_runs_anew(admin: Client, key: str, post: Post) -> None:
    """And the admin's log says who did it."""
    post("/function/", key)
    chosen = [str(record.pk) for record in IdempotencyRecord.objects.all()]
    admin.post(LIST, {"action": "expire", "_selected_action": chosen})
    assert LogEntry.objects.count() == 1
    assert "Idempotent-Replayed" not in post("/function/", key)
    assert effects.count() == 2


def test_running_record_is_not_expired(admin: Client, key: str, post: Post) -> None:
    """Only the takeover rule touches it."""
    post("/function/", key, act="unauthorized")
    IdempotencyRecord.objects.update(status=Status.IN_PROGRESS)
    before = IdempotencyRecord.objects.get().expires_at
    chosen = [str(record.pk) for record in IdempotencyRecord.objects.all()]
    admin.post(LIST, {"action": "expire", "_selected_action": chosen})
    assert IdempotencyRecord.objects.get().expires_at == before
    assert not LogEntry.objects.exists()


def test_viewer_may_not_expire(key: str, post: Post) -> None:
    """To look is one permission, to change another."""
    post("/function/", key)
    client = Client()
    client.force_login(staff("view_idempotencyrecord"))
    assert key[:20].encode() in client.get(LIST).content
    chosen = [str(record.pk) for record in IdempotencyRecord.objects.all()]
    client.post(LIST, {"action": "expire", "_selected_action": chosen})
    assert post("/function/", key)["Idempotent-Replayed"] == "true"


def test_cleanup_deletes_what_is_expired_and_nothing_else(post: Post) -> None:
    """In batches, to the last."""
    for number in range(5):
        post("/function/", f"{number:032}")
    IdempotencyRecord.objects.exclude(key=f"{0:032}").update(expires_at=UtcNow())
    output = StringIO()
    call_command("cleanup_idempotency", "--batch-size", "2", stdout=output)
    assert "4 expired records deleted" in output.getvalue()
    assert IdempotencyRecord.objects.get().key == f"{0:032}"


@pytest.mark.parametrize("arguments", [["--database", "nowhere"], ["--batch-size", "0"]])
def test_cleanup_refuses_bad_arguments(arguments: list[str]) -> None:
    """With a clear error."""
    with pytest.raises(CommandError):
        call_command("cleanup_idempotency", *arguments)
