"""Chromium without a window, driven by Selenium."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.support.servers.programs import installed

REMEDY = "on Debian and Ubuntu: apt install chromium chromium-driver"
# Its sandbox is not for root, who runs things in containers, and the pages are all our own. It
# talks to nobody but the shop.
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
)


def programs() -> tuple[str, str]:
    """The browser and its driver; raises ServerUnavailableError."""
    browser = installed("chromium", "chromium-browser", "google-chrome", remedy=REMEDY)
    return str(browser), str(installed("chromedriver", remedy=REMEDY))


@contextmanager
def chromium(profile: Path, *arguments: str) -> Iterator[Chrome]:
    """A browser that remembers nothing of earlier ones, until the block ends."""
    options = ChromeOptions()
    # With both paths given, Selenium looks for no driver to download.
    options.binary_location, driver = programs()
    # What pages complain about in the console, too.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}", *arguments):
        options.add_argument(argument)
    with pytest.MonkeyPatch.context() as environment:
        # Selenium would look for the driver on this machine behind the environment's proxy.
        environment.setenv("no_proxy", "localhost")
        browser = Chrome(options, ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()
