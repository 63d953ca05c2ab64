"""The records in the admin, in the hands of somebody who keeps the shop running."""

import base64
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from selenium.common import NoAlertPresentException

from .records import ENVELOPES, STEPS, envelope, read, record, step, write
from .visitor import Visitor

RECORDS = "/admin/django_idempotency/idempotencyrecord/"
SIZE = (1480, 960)


@dataclass(frozen=True)
class Operator:
    """A visitor with the keys to the admin, and the records of her own test."""

    visitor: Visitor

    def logs_in(self) -> None:
        """By name and password."""
        self.visitor.opens("/admin/")
        self.visitor.writes("demo", "#id_username")
        self.visitor.writes("demo", "#id_password")
        self.visitor.clicks("[type=submit]")

    def finds(self, key: str) -> None:
        """She searches for a key alone, and opens its record."""
        self.visitor.opens(RECORDS)
        self.visitor.writes(key, "#searchbar")
        self.visitor.clicks("#changelist-search [type=submit]")
        self.visitor.clicks("#result_list .field-short_key a")

    def does(self) -> None:
        """She presses the record's button, and is sure."""
        self.visitor.clicks("form.submit-row [type=submit]")
        self.visitor.clicks(".idempotency-confirmation [type=submit]")

    @property
    def message(self) -> str:
        """What she is told."""
        return self.visitor.find(".messagelist").text

    def makes_room(self) -> None:
        """She closes the sidebar, unless she has done so before."""
        if "shifted" in (self.visitor.find("#main").get_attribute("class") or ""):
            self.visitor.find("#toggle-nav-sidebar").click()

    def photographs(self, name: str) -> None:
        """The page by day and by night; raises AssertionError for one wider than the screen."""
        for scheme in ("light", "dark"):
            self.visitor._looks(*SIZE, scheme)
            # Colours fade.
            self.visitor.waits(
                lambda b: b.execute_script("return !document.getAnimations().length")
            )
            picture = self.visitor._asks("Page.captureScreenshot", captureBeyondViewport=True)
            file = self.visitor.album / f"{name}-{scheme}.png"
            file.write_bytes(base64.b64decode(picture["data"]))
            wide = self.visitor._runs("return document.documentElement.scrollWidth")
            assert wide <= SIZE[0]


@pytest.fixture
def operator(visitor: Visitor) -> Operator:
    """She is logged in."""
    operator = Operator(visitor)
    operator.logs_in()
    return operator


def put(visitor: Visitor, *rows: dict[str, object], **to: str) -> None:
    """Into the shop's books."""
    write(visitor.shop.books.database, *rows, **to)


def test_list_is_narrowed_and_leads_to_a_record(operator: Operator) -> None:
    """Filter, search, page, timeline, response."""
    visitor = operator.visitor
    key = uuid.uuid4().hex
    a_day_ago = datetime.now(UTC) - timedelta(days=1)
    put(
        visitor,
        record("order-7f3a91c0", minutes=1),
        record("b1946ac9-2474-4d6c-a1f0-7a3f6b6c9d11", minutes=3, scope="user:2", path="/"),
        record("refund-2291", status="in_progress", minutes=42, attempts=2, path="/api/refunds/"),
        record("export-0007", status="in_progress", minutes=2, atomic=False,
               lease_expires_at=datetime.now(UTC) + timedelta(minutes=9), path="/api/exports/"),
        record("order-58be02d4", status="released", minutes=7, error="CardDeclined", attempts=2),
        record("invoice-2024-11", minutes=12, response_body=None, path="/api/invoices/"),
        record("photo-418", minutes=15, response_body=b"\x89PNG\r\n" * 60_000, path="/api/photos/"),
        record("order-aa01b7e9", minutes=1500, expires_at=a_day_ago + timedelta(hours=23)),
        record(key, minutes=9, attempts=2, created_at=datetime.now(UTC) - timedelta(minutes=11)),
    )  # fmt: skip
    visitor.opens(RECORDS)
    assert key[:20] in visitor.page
    operator.makes_room()
    operator.photographs("admin-list")
    visitor.clicks("[href*='standing=stale']")
    assert "refund-2291" in visitor.page
    assert key[:20] not in visitor.page
    operator.finds(key)
    assert "Claim of attempt 2" in visitor.page
    assert "lemon" not in visitor.page
    visitor.clicks("[href='?response=1']")
    assert '"cake": "lemon"' in visitor.page
    operator.photographs("admin-record")


def test_script_in_a_body_is_inert(operator: Operator) -> None:
    """It is read, not run."""
    key = uuid.uuid4().hex
    script = "<script>alert('run'); document.title = 'run'</script>"
    headers = [["Content-Type", "text/html"], ["X-Evil", script]]
    put(operator.visitor, record(key, response_body=script.encode(), response_headers=headers))
    operator.finds(key)
    operator.visitor.clicks("[href='?response=1']")
    assert operator.visitor.page.count(script) == 2
    assert operator.visitor.browser.title != "run"
    with suppress(NoAlertPresentException):
        pytest.fail(operator.visitor.browser.switch_to.alert.text)


def test_expired_key_orders_once_more(operator: Operator) -> None:
    """The same form, sent again after Back, is a new order then."""
    visitor = operator.visitor
    visitor.opens()
    key = visitor.key
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert visitor.sees_her_order()
    form = visitor.browser.current_window_handle
    visitor.browser.switch_to.new_window("tab")
    operator.finds(key)
    operator.does()
    assert operator.message == "1 key expired."
    visitor.browser.close()
    visitor.browser.switch_to.window(form)
    visitor.goes_back()
    visitor.clicks()
    assert visitor.sees_her_order()
    assert visitor.cakes == (2, 2)


def test_stuck_key_is_released_and_a_live_one_is_not(operator: Operator) -> None:
    """She is told why."""
    visitor = operator.visitor
    stuck, live = uuid.uuid4().hex, uuid.uuid4().hex
    later = datetime.now(UTC) + timedelta(minutes=9)
    put(
        visitor,
        record(stuck, status="in_progress"),
        record(live, status="in_progress", atomic=False, lease_expires_at=later),
    )
    operator.finds(stuck)
    operator.does()
    assert operator.message == "1 key released."
    assert read(visitor.shop.books.database, stuck) == ("released", "ReleasedByHand")
    operator.finds(live)
    operator.does()
    assert "1 was left alone. Its claim is still trusted" in operator.message
    assert read(visitor.shop.books.database, live)[0] == "in_progress"


def test_all_matching_are_expired(operator: Operator) -> None:
    """More than a page of them, by two clicks more."""
    visitor = operator.visitor
    path = f"/{uuid.uuid4().hex}/"
    rows = [record(uuid.uuid4().hex, minutes=n, path=path) for n in range(103)]
    put(visitor, *rows)
    visitor.opens(f"{RECORDS}?q={path}")
    visitor.find("#action-toggle").click()
    visitor.find("span.question a").click()
    visitor.find("select[name=action] option[value=expire]").click()
    visitor.clicks(".actions [type=submit]")
    visitor.clicks(".idempotency-confirmation [type=submit]")
    assert operator.message == "103 keys expired."


def test_step_in_doubt_is_resolved(operator: Operator) -> None:
    """She looks at the operation, sees what steps returned, and says that the mail was sent."""
    visitor = operator.visitor
    row = record(f"delivery-{uuid.uuid4().hex[:8]}", status="released", attempts=3, atomic=False,
                 minutes=14, error="OutcomeUnknownError", path="/api/deliveries/")  # fmt: skip
    failed = {"status": "retrying", "error": "ConnectionError"}
    put(visitor, row)
    put(
        visitor,
        step(row, "order", kind="step", minutes=13, output=b'{"order": 1042}'),
        step(row, "charge", minutes=12, attempt=3),
        step(row, "courier", minutes=11, attempt=4, **failed),
        step(row, "mail", minutes=10, status="unknown", error="ReadTimeout"),
        step(row, "undo:charge", minutes=9, kind="undo", status="failed", error="CardDeclined"),
        table=STEPS,
    )
    put(visitor, envelope(row, tries=30, due_at=None, error="OutcomeUnknownError"), table=ENVELOPES)
    visitor.opens(f"{RECORDS}?standing=given-up")
    assert row["key"] in visitor.page
    operator.makes_room()
    operator.finds(row["key"])
    operator.photographs("admin-operation")
    assert "ch_1042" not in visitor.page
    visitor.clicks("[href='?outputs=1']")
    assert '"id": "ch_1042"' in visitor.page
    operator.photographs("admin-operation-outputs")
    visitor.clicks("button[name=decision][value=done]")
    visitor.writes("{sent}", "#id_output")
    visitor.clicks(".idempotency-confirmation [type=submit]")
    assert "Enter a valid JSON." in visitor.page
    operator.photographs("admin-decision")
    visitor.writes('{"sent": true}', "#id_output")
    visitor.clicks(".idempotency-confirmation [type=submit]")
    assert "recorded as done" in operator.message
    assert "A person said so." in visitor.page


def test_completer_runs_when_she_says_so(operator: Operator) -> None:
    """She is asked first, and told what came of it."""
    visitor = operator.visitor
    row = record(f"delivery-{uuid.uuid4().hex[:8]}", status="released", attempts=2, atomic=False,
                 error="ConnectionError", path="/api/deliveries/")  # fmt: skip
    put(visitor, row)
    put(visitor, envelope(row, user_id="4711"), table=ENVELOPES)
    operator.finds(row["key"])
    assert "in 1 minute" in visitor.page
    visitor.clicks("form[action$='/complete/'] button")
    assert row["key"] in visitor.page
    operator.photographs("admin-completer")
    visitor.clicks(".idempotency-confirmation [type=submit]")
    assert "its user is gone or not active" in operator.message
    assert "it was given up" in visitor.page
    operator.photographs("admin-completer-told")
