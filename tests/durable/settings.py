"""The shop on the database of the test suite, with leases short enough to wait for.

``SHOP_VERSION`` is the version of the shop that is served, one of :mod:`.versions`.
"""

import os

from testproject import settings as shop
from testproject.settings import *  # noqa: F403
from tests import settings as suite

DATABASES = {"default": suite.DATABASES["default"]}
ROOT_URLCONF = "tests.durable.urls"
ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = suite.PASSWORD_HASHERS

# Refusals by their codes.
REST_FRAMEWORK = shop.REST_FRAMEWORK | {
    "EXCEPTION_HANDLER": "django_idempotency.rest_framework.problem_details_handler"
}

SHOP_KITCHEN_LOG = str(suite.scratch_folder() / "kitchen.log")
# A call may take longer than a lease, which is made longer for it: beats are among what can fail.
SHOP_CALL_SECONDS = float(os.environ.get("SHOP_CALL_SECONDS", "5"))
SHOP_LEASE_SECONDS = float(os.environ.get("SHOP_LEASE_SECONDS", "1"))

# Errors are what is tested here; they are counted where they arrive.
LOGGING_CONFIG = None
