"""The settings mypy's Django plugin reads: the shop's, with the tests' own app beside it."""

from testproject import settings as shop
from testproject.settings import *  # noqa: F403

INSTALLED_APPS = [*shop.INSTALLED_APPS, "tests.app"]
