"""A person in the cake shop, as far as her browser and the shop's books can tell."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from selenium.common import WebDriverException
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from django_idempotency.http.requests import KEY_FIELD
from testproject.demo.server import Shop

PATIENCE_SECONDS = 20.0
FRAMES = {"desktop": (1280, 900), "phone": (390, 844)}


@dataclass(frozen=True)
class Visitor:
    """One tab, and the name she wants on her cake."""

    browser: Chrome
    shop: Shop
    icing: str
    album: Path

    @property
    def cakes(self) -> tuple[int, int]:
        """Her cakes in the database, and how often the kitchen baked for her."""
        return self.shop.books.count(self.icing)

    @property
    def key(self) -> str:
        """The key in the page she sees."""
        return self.find(f"[name={KEY_FIELD}]").get_attribute("value") or ""

    @property
    def page(self) -> str:
        """What she reads."""
        return self.find("main").text

    @property
    def address(self) -> str:
        """Where she is."""
        return self.browser.current_url

    def find(self, selector: str) -> WebElement:
        """What there is for this selector of CSS."""
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def opens(self, path: str = "/") -> None:
        """She comes to a page."""
        self.browser.get(self.shop.address + path)

    def writes(self, icing: str, field: str = "#id_icing") -> None:
        """She writes a name, over what stands there."""
        place = self.find(field)
        place.clear()
        place.send_keys(icing)

    def picks(self, cake: str) -> None:
        """She chooses a cake."""
        self.find(f"[name=cake][value={cake}]").click()

    def clicks(self, button: str = ".order .button") -> None:
        """She clicks once, and waits for the next page."""
        with self._turning_the_page():
            self.find(button).click()

    def clicks_twice(self, seconds: float, button: str = ".order .button") -> None:
        """She clicks, and again after so many seconds, wherever that leads.

        Not Selenium's double_click(): no time is between its clicks, and Chromium, which nobody
        clicks that fast, then sends the form once.
        """
        mouse = ActionChains(self.browser, duration=0).move_to_element(self.find(button))
        mouse.click().pause(seconds).click().perform()

    def goes_back(self) -> None:
        """She presses Back."""
        with self._turning_the_page():
            self.browser.back()

    def reloads(self) -> None:
        """She reloads the page; if a form had led to it, that is sent again."""
        with self._turning_the_page():
            self.browser.refresh()

    @contextmanager
    def _turning_the_page(self) -> Iterator[None]:
        # Each page was born at another time. Asking whether an element of the old one is stale
        # upsets chromedriver now and then.
        before = self._runs("return performance.timeOrigin")
        yield
        self.waits(lambda _: self._runs("return performance.timeOrigin") != before)
        self.waits(lambda _: self._has_loaded())

    def waits(self, condition: Callable[[Any], Any]) -> None:
        """She waits until that is so, whatever the driver says of a page that is just leaving."""
        WebDriverWait(
            self.browser, PATIENCE_SECONDS, ignored_exceptions=[WebDriverException]
        ).until(condition)

    def sees_her_order(self) -> bool:
        """Whether this is the page of an order with her name."""
        self.waits(lambda _: "/orders/" in self.address and self._has_loaded())
        return self.icing in self.find(".ticket").text

    def photographs(self, name: str) -> None:
        """The page on a desktop and a phone, by day and by night, into the album.

        A page wider than the screen raises AssertionError.
        """
        for (frame, size), scheme in product(FRAMES.items(), ("light", "dark")):
            self._looks(*size, scheme)
            picture = self._asks("Page.captureScreenshot", captureBeyondViewport=True)
            file = self.album / f"{name}-{frame}-{scheme}.png"
            file.write_bytes(base64.b64decode(picture["data"]))
            wide = self._runs("return document.documentElement.scrollWidth")
            assert wide <= size[0], f"{wide} pixels on a {frame} of {size[0]}"

    def _has_loaded(self) -> bool:
        return bool(self._runs("return document.readyState == 'complete'"))

    def _looks(self, width: int, height: int, scheme: str) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self._asks("Emulation.setDeviceMetricsOverride", **size, mobile=width < height)
        # Nothing may be on its way from one colour to the other.
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self._asks("Emulation.setEmulatedMedia", features=features)

    def _runs(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def _asks(self, command: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.browser.execute_cdp_cmd(command, parameters)
        return answer
