"""The order form in a person's hands: double clicks, reload, Back, mistakes."""

from dataclasses import replace

import pytest
from selenium.webdriver import Chrome

from .visitor import Visitor

ONCE, TWICE = (1, 1), (2, 2)


@pytest.mark.parametrize("seconds", [0.08, 0.5], ids=["double-click", "two-clicks"])
def test_clicked_twice_orders_once(visitor: Visitor, seconds: float) -> None:
    """Both requests reach the shop; the second one's reply leads her to the order of the first."""
    before = visitor.shop.answered("POST", "/")
    visitor.opens()
    visitor.writes(visitor.icing)
    visitor.clicks_twice(seconds)
    visitor.waits(lambda _: visitor.shop.answered("POST", "/") == before + 2)
    assert visitor.sees_her_order()
    assert visitor.cakes == ONCE
    visitor.photographs("clicked-twice")


@pytest.mark.parametrize(("side", "cakes"), [("without", TWICE), ("with", ONCE)])
def test_key_alone_makes_the_difference(
    visitor: Visitor, side: str, cakes: tuple[int, int]
) -> None:
    """The same clicks on the same form: two orders without a key, one with it."""
    before = visitor.shop.answered("POST", "/tunnel/order/")
    visitor.opens("/tunnel/")
    visitor.writes(visitor.icing, f"#{side}_icing")
    form = f".side:has(#{side}_icing)"
    visitor.clicks_twice(0.08, f"{form} .button")
    visitor.waits(lambda _: visitor.shop.answered("POST", "/tunnel/order/") == before + 2)
    visitor.waits(lambda _: visitor.find(f"{form} .reply:not(.reply--none)"))
    assert visitor.cakes == cakes
    visitor.photographs(f"tunnel-{side}-a-key")


def ordered(visitor: Visitor) -> str:
    """An order; the address of its page."""
    visitor.opens()
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert visitor.sees_her_order()
    return visitor.address


def test_reloaded_result_page_orders_nothing(visitor: Visitor) -> None:
    """It is the order's own page: no form is sent again."""
    page = ordered(visitor)
    visitor.reloads()
    assert visitor.cakes == ONCE
    assert visitor.sees_her_order()
    assert visitor.address == page


@pytest.mark.parametrize("by_button", [False, True], ids=["reload", "try-again"])
def test_form_sent_again_after_a_lost_reply_orders_once(visitor: Visitor, by_button: bool) -> None:
    """Here reloading does send the form again, and leads to the order of the first time."""
    before = visitor.shop.answered("POST", "/")
    visitor.opens("/tunnel/")
    visitor.clicks(".switch")
    visitor.opens()
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert "The reply never reached you" in visitor.page
    visitor.clicks(".lost .button") if by_button else visitor.reloads()
    assert visitor.sees_her_order()
    assert visitor.cakes == ONCE
    assert visitor.shop.answered("POST", "/") == before + 2


def test_back_and_sent_unchanged_leads_to_the_same_order(visitor: Visitor) -> None:
    """The page comes back with its key and its fields."""
    page = ordered(visitor)
    visitor.goes_back()
    visitor.clicks()
    assert visitor.sees_her_order()
    assert visitor.cakes == ONCE
    assert visitor.address == page
    assert "more than once" in visitor.page
    visitor.photographs("back-unchanged")


def test_back_and_sent_with_another_cake_is_refused(visitor: Visitor) -> None:
    """In words for a person: the form was used, look before you order anew."""
    ordered(visitor)
    visitor.goes_back()
    visitor.picks("lemon")
    visitor.clicks()
    assert visitor.cakes == ONCE
    assert "This form was already used" in visitor.page
    assert "open the form anew" in visitor.page
    visitor.photographs("back-changed")


def test_corrected_form_orders_once(visitor: Visitor) -> None:
    """From the page that shows the error."""
    visitor.opens()
    visitor.writes("  ")
    visitor.clicks()
    assert "This field is required." in visitor.page
    visitor.photographs("error")
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert visitor.sees_her_order()
    assert visitor.cakes == ONCE


# A browser drops a page from its caches when something is posted to its very address (RFC 9111,
# 4.4): from "/" Back leads to a new page, from the other to the one that was sent.
@pytest.mark.parametrize(("path", "kept"), [("/", False), ("/?from=a-friend", True)])
def test_form_corrected_after_back_orders_once(visitor: Visitor, path: str, kept: bool) -> None:
    """The mistake freed the key, so the page that was sent with it can be sent again."""
    visitor.opens(path)
    key = visitor.key
    visitor.writes("  ")
    visitor.clicks()
    assert "This field is required." in visitor.page
    visitor.goes_back()
    assert (visitor.key == key) is kept
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert visitor.sees_her_order()
    assert visitor.cakes == ONCE


def test_back_to_a_page_that_is_gone_brings_a_new_form(
    visitor: Visitor, forgetful_browser: Chrome
) -> None:
    """The limit: what is sent from there is another order, for it has another key."""
    visitor = replace(visitor, browser=forgetful_browser)
    visitor.opens()
    key = visitor.key
    visitor.writes(visitor.icing)
    visitor.clicks()
    visitor.goes_back()
    assert visitor.key != key
    visitor.writes(visitor.icing)
    visitor.clicks()
    assert visitor.cakes == TWICE
