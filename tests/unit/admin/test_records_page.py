"""The page of one record: its timeline, its response as text, and who may use the key next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from django_idempotency.admin.bodies import body_of
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.storage.values import StoredResponse

from . import LIST, UNANSWERED, made, page_of, running

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

LATER = datetime.now(UTC) + timedelta(minutes=10)
JSON = [("content-type", "application/problem+json; charset=utf-8")]


def released(**changes: Any) -> IdempotencyRecord:
    """A record whose last attempt left no outcome."""
    return made(status=Status.RELEASED, **UNANSWERED, **changes)


def moments(client: Client, record: Any) -> list[tuple[str, str, bool]]:
    """The timeline of a record's page."""
    response: Any = client.get(page_of(record))
    return [(str(m.title), str(m.note), m.is_over) for m in response.context["timeline"]]


def test_timeline_of_a_completed_record(admin: Client) -> None:
    """The past and the future."""
    vouched = "A row lock vouches for the claim."
    assert moments(admin, made(attempts=2)) == [
        ("First request", "POST /orders/", True),
        ("Claim of attempt 2", "", True),
        ("Response saved", "201", True),
        ("End of the lease", vouched, True),
        ("Expiry", "", False),
    ]


def test_timeline_of_a_released_record(admin: Client) -> None:
    """The release comes after its claim; its time is not stored."""
    record = released(error="ValueError")
    assert ("Release", "ValueError", True) in moments(admin, record)
    page = admin.get(page_of(record)).content.decode()
    assert "Its time is not kept." in page
    assert "None is stored." in page


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (lambda: made(), "the same request gets the saved response"),
        (lambda: made(expires_at=LATER - timedelta(days=1)), "runs anew, whatever it asks"),
        (lambda: released(), "runs at once, whatever it asks"),
        (lambda: released(atomic=False), "another one is refused"),
        (lambda: running(), "as soon as nobody holds the row"),
        (lambda: running(atomic=False), "at once: the lease has ended"),
        (lambda: running(atomic=False, lease_expires_at=LATER), "when the lease ends"),
    ],
    ids=["completed", "expired", "released", "not-atomic", "running", "stale", "leased"],
)  # fmt: skip
def test_page_says_who_may_have_the_key_next(admin: Client, record: Any, words: str) -> None:
    """And from when."""
    assert words in admin.get(page_of(record())).content.decode()


def test_body_is_escaped(admin: Client) -> None:
    """The headers, too: nothing runs that a view has answered."""
    record = made(
        response_headers=[["X-Evil", "<script>alert(1)</script>"]],
        response_body=b"<script>alert(2)</script>",
        path="/<script>alert(3)</script>",
    )
    page = admin.get(page_of(record) + "?response=1").content.decode()
    assert "<script>alert" not in page
    for number in (1, 2, 3):
        assert f"&lt;script&gt;alert({number})&lt;/script&gt;" in page


def test_headers_and_body_are_shown_on_demand(admin: Client) -> None:
    """The body is indented, because its Content-Type is JSON."""
    page = admin.get(page_of(made()) + "?response=1").content.decode()
    assert "X-Oven" in page
    assert "{\n  &quot;cake&quot;: &quot;lemon&quot;\n}" in page


def test_page_without_a_response_shows_none(admin: Client) -> None:
    """Not even if the URL asks for it."""
    assert "None is stored." in admin.get(page_of(running()) + "?response=1").content.decode()


def test_page_of_an_unknown_record_leads_to_the_index(admin: Client) -> None:
    """As everywhere in the admin."""
    record = made()
    record.delete()
    assert admin.get(page_of(record)).status_code == 302


@pytest.mark.parametrize(
    ("record", "action"),
    [
        (made, "expire"),
        (running, "release"),
        (lambda: made(expires_at=LATER - timedelta(days=1)), "delete_selected"),
    ],
    ids=["completed", "in-progress", "expired"],
)
def test_page_has_the_button_that_fits(admin: Client, record: Any, action: str) -> None:
    """It leads to the confirmation."""
    page = admin.get(page_of(record())).content.decode()
    assert f'name="action" value="{action}"' in page
    assert page.count('name="action"') == 1
    assert f'action="{LIST}"' in page


@pytest.mark.parametrize(
    ("stored", "note", "text"),
    [
        (StoredResponse(200, JSON, b'{"a":[1]}'), "JSON, indented", '{\n  "a": [\n    1\n  ]\n}'),
        (StoredResponse(200, JSON, b'{"a":'), "Text", '{"a":'),
        (StoredResponse(200, JSON, b"[" * 100_000), "Text", "[" * 100_000),
        (StoredResponse(200, [], "süß".encode()), "Text", "süß"),
        (StoredResponse(200, [], b""), "Text", ""),
        (StoredResponse(200, [], None), "It was larger than the limit and is not stored.", ""),
        (StoredResponse(200, [], b"\x89PNG\0"), "Binary; its first 5 bytes:",
         "0000  89 50 4e 47 00"),
        (StoredResponse(200, [], b"a\x1b[31m"), "Binary; its first 6 bytes:",
         "0000  61 1b 5b 33 31 6d"),
    ],
    ids=["json", "broken-json", "deep-json", "text", "empty", "omitted", "binary", "escapes"],
)  # fmt: skip
def test_body_is_shown_as(stored: StoredResponse, note: str, text: str) -> None:
    """As readable text, or as the beginning of binary data."""
    body = body_of(stored)
    assert (str(body.note), body.text) == (note, text)
    assert body.size == (None if stored.body is None else len(stored.body))


def test_long_bodies_are_cut() -> None:
    """Text and bytes; the size is that of the whole body."""
    for data in (b"a" * 200_000, b"\0" * 1000):
        body = body_of(StoredResponse(200, [], data))
        assert body.is_cut
        assert body.size == len(data)
    assert body.text.count("\n") == 15
