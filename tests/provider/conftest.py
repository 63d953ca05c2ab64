"""One provider for all of these tests; each finds it with an empty ledger and well."""

from collections.abc import Iterator

import pytest
from pytest_django import Settings

from testproject.provider.server import Provider, open_provider


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder are about the provider, not about a database."""
    item.add_marker(pytest.mark.once)


@pytest.fixture(scope="session")
def running() -> Iterator[Provider]:
    """The process."""
    with open_provider() as provider:
        yield provider


@pytest.fixture
def provider(running: Provider, settings: Settings) -> Provider:
    """The provider that the shop calls."""
    running.reset()
    settings.SHOP_PROVIDER_URL = running.address
    return running
