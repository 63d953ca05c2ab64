"""What the processes of :mod:`.victim` are forked from: Django ready, no connection open."""

import gc
import logging
from contextlib import suppress

import django

django.setup()
# The faults are meant; tracebacks of them cost more than the requests.
logging.disable(logging.CRITICAL)

from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from testproject.shop import partners  # noqa: E402

from . import urls, versions, victim  # noqa: E402, F401

# Loads the URLs, the middleware, the driver, and all that a call needs.
Client().post("/api/deliveries/")
with suppress(partners.ProviderDownError):
    partners.find_charge(idempotency_key="")
connection.ensure_connection()
connection.close()
gc.freeze()
