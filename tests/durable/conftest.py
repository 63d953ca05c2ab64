"""One provider for all of these tests; each finds it with an empty ledger and well."""

from collections.abc import Iterator

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from pytest_django import Settings
from rest_framework.authtoken.models import Token

from testproject.provider.server import Provider
from tests.settings import scratch_folder

# The shop is not among the apps of the other suites: see python -m tests.durable.
collect_ignore_glob = [] if "testproject.shop" in configured.INSTALLED_APPS else ["test_*.py"]


def pytest_itemcollected(item: pytest.Item) -> None:
    """All tests in this folder have settings of their own."""
    item.add_marker(pytest.mark.durable)


@pytest.fixture(scope="session")
def running() -> Iterator[Provider]:
    """The process; its ledger lies where the databases do."""
    folder = scratch_folder() / "provider"
    folder.mkdir()
    provider = Provider(folder)
    try:
        provider.start()
        yield provider
    finally:
        provider.stop()


@pytest.fixture
def provider(running: Provider, settings: Settings) -> Provider:
    """The provider that the shop calls."""
    running.reset()
    settings.SHOP_PROVIDER_URL = running.address
    return running


@pytest.fixture
def token(db: None) -> str:
    """A customer's."""
    ada = User.objects.create_user("ada", "ada@example.com")
    return str(Token.objects.create(user=ada).key)
