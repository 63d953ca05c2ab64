"""The list: its columns, filters, search and pages, and what each costs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.admin import search
from django_idempotency.admin.records import IdempotencyRecordAdmin
from django_idempotency.models import Status

from . import LIST, UNANSWERED, client_of, made, running

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

NOW = datetime.now(UTC)
PAST, SOON = NOW - timedelta(hours=2), NOW + timedelta(minutes=30)


def keys(client: Client, **query: str) -> list[str]:
    """The keys of the records on a page, in order."""
    response: Any = client.get(LIST, query)
    assert response.status_code == 200, response.headers
    return [record.key for record in response.context["cl"].result_list]


def statements(client: Client, url: str = LIST) -> list[str]:
    """The statements that a page needs."""
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in captured]


@pytest.fixture
def various() -> None:
    """One record of each kind."""
    made("completed", path="/orders/7/")
    made("expired", expires_at=PAST)
    made("released", status=Status.RELEASED, atomic=False, expires_at=SOON, **UNANSWERED)
    running("running", lease_expires_at=SOON)
    running("stale", scope="tenant 7")


@pytest.mark.usefixtures("various")
def test_list_opens_with_five_queries_and_no_body() -> None:
    """One for the session, one for the user, two for permissions, one for the records."""
    client = client_of("view_idempotencyrecord", "expire")
    asked = statements(client)
    assert len(asked) <= 5
    records = [text for text in asked if "idempotencyrecord" in text and "fingerprint" in text]
    assert len(records) == 1
    assert "COUNT(" not in "".join(asked).upper()
    assert "OFFSET" not in records[0]
    assert "LIMIT 101" in records[0]
    body, headers = '."response_body"', '."response_headers"'
    text = records[0].replace("`", '"')
    assert text.count(body) == text.count(f'LENGTH("django_idempotency_idempotencyrecord"{body}')
    assert headers not in text


@pytest.mark.usefixtures("various")
def test_list_shows_status_age_and_size(admin: Client) -> None:
    """In words, coloured by a class."""
    page = admin.get(LIST).content.decode()
    assert 'class="idempotency-status idempotency-status--stale">in progress</span>' in page
    assert 'class="idempotency-status idempotency-status--expired">completed</span>' in page
    assert "idempotency-status--released" in page
    assert "1\xa0minute" in page
    assert "17\xa0bytes" in page
    assert "style=" not in page.partition('<div id="content-main">')[2]


def test_omitted_body_is_named(admin: Client) -> None:
    """A body larger than the limit was not stored."""
    made(response_body=None)
    assert ">omitted<" in admin.get(LIST).content.decode()


def test_erased_record_leads_to_its_page(admin: Client) -> None:
    """Though it has no key to click on."""
    made("", scope="", fingerprint=b"")
    assert "(erased)</a>" in admin.get(LIST).content.decode()


@pytest.mark.usefixtures("various")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status__exact": "completed"}, {"completed", "expired"}),
        ({"standing": "stale"}, {"stale"}),
        ({"standing": "expired"}, {"expired"}),
        ({"atomic__exact": "0"}, {"released"}),
        ({"expires_until": NOW.isoformat()}, {"expired"}),
        ({"expires_from": NOW.isoformat(), "expires_until": "2999-01-01"},
         {"completed", "released", "running", "stale"}),
        ({"expires_from": timezone.localtime(NOW).strftime("%Y-%m-%dT%H:%M"),
          "expires_until": (SOON + timedelta(minutes=2)).isoformat()}, {"released"}),
    ],
)  # fmt: skip
def test_filter_finds(admin: Client, query: dict[str, str], found: set[str]) -> None:
    """By status, by standing, by atomic, and by a range of time."""
    assert set(keys(admin, **query)) == found


@pytest.mark.usefixtures("various")
def test_every_link_of_a_filter_opens(admin: Client) -> None:
    """The ready-made ranges, too; the chosen one is marked."""
    response: Any = admin.get(LIST)
    for spec in response.context["cl"].filter_specs:
        for choice in spec.choices(response.context["cl"]):
            page = admin.get(LIST + choice["query_string"])
            assert page.status_code == 200
            assert b'class="selected"' in page.content


@pytest.mark.parametrize(
    "query",
    [{"expires_from": "soon"}, {"older_than": "x"}, {"newer_than": f"{NOW.isoformat()}_x"}],
)
def test_url_that_makes_no_sense_leads_to_the_whole_list(
    admin: Client, query: dict[str, str]
) -> None:
    """As everywhere in the admin."""
    response: Any = admin.get(LIST, query)
    assert (response.status_code, response["Location"]) == (302, f"{LIST}?e=1")


@pytest.mark.usefixtures("various")
@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("stale", ["stale"]),
        ("user:1 completed", ["completed"]),
        ("tenant 7 stale", ["stale"]),
        ("user:1 stale", []),
        ("/orders/7", ["completed"]),
        ("/order", None),
        ("stal", []),
        (" ", None),
    ],
)
def test_search_finds(admin: Client, term: str, found: list[str] | None) -> None:
    """A key, a scope and a key, the beginning of a path; None stands for all records."""
    assert len(keys(admin, q=term)) == 5 if found is None else keys(admin, q=term) == found


def test_uuid_is_an_id_or_a_key(admin: Client) -> None:
    """Most clients use UUIDs as keys."""
    key = "0b54ad3e-9c43-4a21-8a0c-5e3d7d1f1f10"
    record = made(key)
    assert keys(admin, q=str(record.pk)) == [key]
    assert keys(admin, q=key) == [key]


def test_scope_and_key_are_found_by_the_primary_key(admin: Client) -> None:
    """No other column is compared."""
    made()
    (text,) = [t for t in statements(admin, f"{LIST}?q=user:1+key") if "fingerprint" in t]
    condition = text.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
    assert condition.count("=") == 1
    assert "id" in condition


def test_key_alone_is_looked_for_within_bounds(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the records that expire last, or last before the end of the chosen time."""
    monkeypatch.setattr(search, "WINDOW", 3)
    times = [NOW + timedelta(hours=hour) for hour in range(6)]
    for hour, when in enumerate(times):
        made(f"key-{hour}", expires_at=when)
    assert keys(admin, q="key-3") == ["key-3"]
    assert keys(admin, q="key-2") == []
    assert keys(admin, q="/orders/") == ["key-5", "key-4", "key-3"]
    assert keys(admin, q="key-2", expires_until=times[4].isoformat()) == ["key-2"]
    assert keys(admin, q="user:1 key-0") == ["key-0"]


def _walk(client: Client, direction: str, url: str) -> list[list[str]]:
    pages = []
    while url:
        response: Any = client.get(LIST + url)
        pages.append([record.key for record in response.context["cl"].result_list])
        url = getattr(response.context["cl"], direction)
    return pages


def test_pages_lead_to_the_end_and_back(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record is on one page, even if several expire at the same moment."""
    monkeypatch.setattr(IdempotencyRecordAdmin, "list_per_page", 3)
    for number in range(8):
        made(f"key-{number}", expires_at=NOW + timedelta(hours=number // 4))
    pages = _walk(admin, "older_url", "?")
    assert [len(page) for page in pages] == [3, 3, 2]
    assert len({key for page in pages for key in page}) == 8
    last: Any = admin.get(LIST)
    while last.context["cl"].older_url:
        last = admin.get(LIST + last.context["cl"].older_url)
    back = _walk(admin, "newer_url", last.context["cl"].newer_url)
    assert back == pages[-2::-1]
    assert keys(admin) == pages[0]


def test_later_page_neither_counts_nor_skips(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It begins after the last record of the page before, and keeps the filters."""
    monkeypatch.setattr(IdempotencyRecordAdmin, "list_per_page", 2)
    for number in range(5):
        made(f"key-{number}")
    first: Any = admin.get(LIST, {"status__exact": "completed"})
    url = first.context["cl"].older_url
    assert "status__exact=completed" in url
    text = "".join(statements(admin, LIST + url)).upper()
    assert "COUNT(" not in text
    assert "OFFSET" not in text
    page: Any = admin.get(LIST + url)
    assert "older_than" not in "".join(page.context["cl"].params)
    spec = page.context["cl"].filter_specs[0]
    assert all(
        "older_than" not in choice["query_string"] for choice in spec.choices(page.context["cl"])
    )


def test_url_cannot_change_the_order(admin: Client) -> None:
    """A URL must not make the database sort a million rows."""
    made("a", expires_at=SOON)
    made("b", expires_at=PAST)
    assert keys(admin, o="1") == ["a", "b"]
    assert keys(admin, o="-1") == ["a", "b"]
