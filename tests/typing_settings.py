"""The settings mypy's Django plugin reads: the shop's, with all other apps beside its own."""

from testproject import settings as shop
from testproject.settings import *  # noqa: F403

INSTALLED_APPS = [*shop.INSTALLED_APPS, "testproject.provider", "tests.app"]
