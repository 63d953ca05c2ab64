"""The dashboard in an operator's browser: the numbers, the charts, day and night."""

import math
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By

from testproject.demo.customers import Customer, fresh_key
from testproject.demo.server import Shop, open_shop
from testproject.demo.waiting import eventually
from testproject.shop.gates import Gate

from .visitor import Visitor

PAGE = "/admin/django_idempotency/idempotencycount/"
MEASURES = ("protected", "replayed", "conflicted", "mismatched", "failed", "taken_over")


@pytest.fixture(scope="module")
def counting_shop() -> Iterator[Shop]:
    """A shop of one process, which has counted all there is to count."""
    with open_shop(workers=1) as opened:
        yield opened


@pytest.fixture
def operator(visitor: Visitor, counting_shop: Shop) -> Visitor:
    """Somebody who may open the admin."""
    visitor = replace(visitor, shop=counting_shop)
    visitor.opens(f"/admin/login/?next={PAGE}")
    visitor.writes("demo", "#id_username")
    visitor.writes("demo", "#id_password")
    visitor.clicks("[type=submit]")
    # The console of the pages before.
    complaints(visitor)
    return visitor


def play(shop: Shop) -> None:
    """Two orders, one of them sent three times, a busy key, and a key for two requests."""
    customer = Customer.logged_in(shop, "guest")
    order: dict[str, Any] = {"cake": "lemon", "icing": "Ada"}
    key, busy = fresh_key(), fresh_key()
    for _ in range(3):
        assert customer.order(key, **order).status_code == httpx.codes.CREATED
    baked = len(shop.books.bakings("Ada"))
    with shop.keeping_shut(Gate.OVEN):
        first = customer.order_in_background(busy, **order)
        eventually(lambda: len(shop.books.bakings("Ada")) > baked, "nobody bakes")
        assert customer.order(busy, **order).status_code == httpx.codes.CONFLICT
    assert first.result().status_code == httpx.codes.CREATED
    reused = customer.order(key, cake="carrot", icing="Ada")
    assert reused.status_code == httpx.codes.UNPROCESSABLE_ENTITY


def complaints(visitor: Visitor) -> list[str]:
    """What stands in the console; that there is no icon for the tab is the shop's affair."""
    log: list[dict[str, str]] = visitor.browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in log if "favicon" not in entry["message"]]


def numbers(visitor: Visitor) -> dict[str, int]:
    """What the tiles say."""
    return {
        measure: int(visitor.find(f"figure:has([data-measure={measure}]) .idempotency-number").text)
        for measure in MEASURES
    }


def drawn(visitor: Visitor, measure: str) -> set[tuple[int, int, int, int]]:
    """The colours in a chart's picture."""
    script = """
        const canvas = document.querySelector(`[data-measure=${arguments[0]}] canvas`);
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const seen = new Set();
        for (let i = 0; i < data.length; i += 4) seen.add(data.slice(i, i + 4).join());
        return [...seen];
    """
    found: list[str] = visitor.browser.execute_script(script, measure)
    return {tuple(map(int, text.split(","))) for text in found}  # type: ignore[misc]


def bar_colour(visitor: Visitor, measure: str) -> tuple[int, int, int, int]:
    """What a bar of that chart should be painted with."""
    script = """
        const probe = document.createElement("canvas").getContext("2d");
        const tile = document.querySelector(`[data-measure=${arguments[0]}]`);
        probe.fillStyle = getComputedStyle(tile).getPropertyValue("--idempotency-bar").trim();
        probe.fillRect(0, 0, 1, 1);
        return [...probe.getImageData(0, 0, 1, 1).data];
    """
    return tuple(visitor.browser.execute_script(script, measure))


def test_played_scenario_is_what_the_page_shows(operator: Visitor) -> None:
    """Within ten seconds of the last request or so; as numbers, in the table, and drawn."""
    assert "Nothing happened to a key in the last hour." in operator.page
    play(operator.shop)

    def all_counted(_: Any) -> bool:
        operator.reloads()
        return numbers(operator)["mismatched"] == 1

    operator.waits(all_counted)
    assert numbers(operator) == dict(zip(MEASURES, (2, 2, 1, 1, 0, 0), strict=True))
    cells = operator.browser.find_elements(By.CSS_SELECTOR, ".idempotency-tables tbody td")
    assert [cell.text for cell in cells[:6]] == ["2"] * 6
    assert bar_colour(operator, "replayed") in drawn(operator, "replayed")
    assert bar_colour(operator, "failed") not in drawn(operator, "failed")
    assert complaints(operator) == []


def test_pages_obey_a_strict_policy(operator: Visitor) -> None:
    """The console would say what the policy refused; it does for this script."""
    operator.opens(f"{PAGE}?period=week")
    assert len(operator.browser.find_elements(By.CSS_SELECTOR, "canvas")) == len(MEASURES)
    assert complaints(operator) == []
    operator.browser.execute_script(
        "document.head.append(Object.assign(document.createElement('style'), "
        "{textContent: 'body { color: red }'}))"
    )
    (complaint,) = complaints(operator)
    assert "Content Security Policy" in complaint


def count(shop: Shop, rows: Iterable[tuple[datetime, str, int]]) -> None:
    """Write counts as processes do."""
    table = "django_idempotency_idempotencycount"
    with closing(sqlite3.connect(shop.books.database)) as connection, connection:
        connection.executemany(
            f"INSERT INTO {table} (minute, event, count) VALUES (?, ?, ?)",
            [(str(minute), event, number) for minute, event, number in rows],
        )


def this_minute() -> datetime:
    """As the table has it."""
    return datetime.now(UTC).replace(second=0, microsecond=0, tzinfo=None)


def fill(shop: Shop) -> None:
    """A week of a busy shop, as several processes would have counted it, and some orders."""
    customer = Customer.logged_in(shop, "guest")
    for _ in range(20):
        customer.order(fresh_key(), cake="lemon", icing="Ada")
    minutes = [(this_minute() - timedelta(minutes=age), age) for age in range(7 * 24 * 60)]
    count(
        shop,
        [
            (minute, event, number)
            for minute, age in minutes
            for event, number in busy(minute, age)
            if number
        ],
    )


def busy(minute: datetime, age: int) -> Iterator[tuple[str, int]]:
    """What happened in one minute: more by day, and an afternoon with a bad release."""
    day = 1 + math.sin((minute.hour + minute.minute / 60 - 9) / 24 * math.tau)
    wave = day * (1 + 0.4 * math.sin(age * 1.7) + 0.3 * math.sin(age / 3.1))
    bad = 1 if 20 < age < 34 or 2900 < age < 3080 else 0
    claimed = round(22 * wave)
    yield "claimed", claimed
    yield "completed", claimed
    yield "replayed", round(1.8 * wave) + bad * round(8 + 4 * math.sin(age))
    yield "conflicted", round(max(0, math.sin(age * 0.9) - 0.6) * 4 * day) + bad * 2
    yield "mismatched", int(age % 97 == 7)
    yield "failed", int(age % 53 == 3) + bad * round(5 + 2 * math.sin(age * 2))
    yield "taken_over", int(age % 211 == 11) + bad * (age % 3 == 0)


def test_photographs_of_a_busy_shop(operator: Visitor) -> None:
    """On a desktop and a phone, by day and by night; nothing is wider than the screen."""
    fill(operator.shop)
    for period in ("hour", "day", "week"):
        operator.opens(f"{PAGE}?period={period}")
        operator.photographs(f"dashboard-{period}")


def test_charts_follow_the_admin_s_theme(operator: Visitor) -> None:
    """Its switch recolours them, without another page."""
    count(operator.shop, [(this_minute(), "claimed", 5)])
    operator.opens(PAGE)
    colours = []
    for theme in ("light", "dark"):
        operator.browser.execute_script(f"document.documentElement.dataset.theme = '{theme}'")
        operator.waits(lambda _: bar_colour(operator, "protected") in drawn(operator, "protected"))
        colours.append(bar_colour(operator, "protected"))
    assert colours[0] != colours[1]
