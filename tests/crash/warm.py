"""What the processes of :mod:`.victim` are forked from: Django ready, no connection open."""

import gc
import logging

import django
from django.conf import settings

django.setup()
settings.ROOT_URLCONF = f"{__package__}.urls"
# The faults below are meant; tracebacks of them cost more than the requests.
logging.disable(logging.CRITICAL)

from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402

from tests.app.models import Order  # noqa: E402

from . import victim  # noqa: E402, F401

# Loads the URLs, the middleware and the drivers.
Client().get("/nothing/")
for connection in connections.all():
    assert not Order.objects.using(connection.alias).filter(nonce="").exists()
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()
gc.freeze()
