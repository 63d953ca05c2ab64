"""Waits for what the provider does, or for the provider itself."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from testproject.shop import partners
from tests.support.patience import until

T = TypeVar("T")


def eventually(ask: Callable[[], T | None]) -> T:
    """The first answer that is one; a provider that is down is asked again."""

    def answered() -> T | None:
        with suppress(partners.ProviderDownError):
            return ask()
        return None

    return until(answered)
