"""The suite's settings, with the hammer's site and the servers it brings.

Workers keep their connections, and look whether one still works before they use it: an error after
the last fault is then an error.
"""

import os
from datetime import timedelta
from urllib.parse import urlsplit

from tests import settings as suite
from tests.settings import *  # noqa: F403

from .promises import MAX_AGE, RETRY

ROOT_URLCONF = "tests.chaos.site"
INSTALLED_APPS = ["django_idempotency", "tests.chaos"]
MIDDLEWARE = []
TEMPLATES = []

DATABASES = {
    "default": suite.DATABASES["default"] | {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
}
if suite.DATABASE not in suite.SQLITE:
    DATABASES["default"]["NAME"] = urlsplit(suite.DATABASE).path.lstrip("/")

if suite.REDIS:
    IDEMPOTENCY_CACHE = "redis"
    IDEMPOTENCY_CACHE_MAX_AGE = timedelta(seconds=MAX_AGE)
    IDEMPOTENCY_CACHE_RETRY = timedelta(seconds=RETRY)
    IDEMPOTENCY_CACHE_INFLIGHT = os.environ.get("IDEMPOTENCY_TEST_INFLIGHT") == "1"
    MIDDLEWARE = ["tests.redis.waits.noting"]

# Errors are what the site is for; they are counted where they arrive.
LOGGING_CONFIG = None
