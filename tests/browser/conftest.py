"""A shop with several workers that takes a second over each order, and Chromium."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from testproject.demo.server import Shop, open_shop
from tests.support.servers import ServerUnavailableError

from .chromium import chromium, programs
from .visitor import Visitor

# Where the pictures of the result pages go; unset means the test's own folder.
ALBUM = "IDEMPOTENCY_TEST_SCREENSHOTS"
# A second click comes while the first cake is baked.
BAKE_SECONDS = 1.0
_guests = count(1)


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder drive a browser."""
    item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def profiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for profiles; without Chromium the tests are skipped, and the summary says so."""
    try:
        programs()
    except ServerUnavailableError as error:
        pytest.skip(str(error))
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="session")
def browser(profiles: Path) -> Iterator[Chrome]:
    """Chromium."""
    with chromium(profiles / "usual") as started:
        yield started


@pytest.fixture
def forgetful_browser(profiles: Path) -> Iterator[Chrome]:
    """Chromium that keeps no page for Back, as where memory is short."""
    with chromium(profiles / "forgetful", "--disable-features=BackForwardCache") as started:
        yield started


@pytest.fixture(scope="session")
def shop() -> Iterator[Shop]:
    """The cake shop, on gunicorn and SQLite."""
    with open_shop(bake_seconds=BAKE_SECONDS) as opened:
        yield opened


@pytest.fixture
def visitor(browser: Chrome, shop: Shop, tmp_path: Path) -> Iterator[Visitor]:
    """A stranger in a new tab."""
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    # delete_all_cookies() would ask the page in the tab, and there is none yet.
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    yield Visitor(browser, shop, f"Ada {next(_guests)}", album(tmp_path))
    browser.close()
    browser.switch_to.window(first)


def album(otherwise: Path) -> Path:
    """The folder for pictures."""
    folder = Path(os.environ.get(ALBUM) or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
