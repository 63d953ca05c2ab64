"""The shop for gunicorn, imported to the last module before the workers are forked.

A worker is killed several times a second: its successor must not begin by importing Django.
"""

from contextlib import suppress
from importlib import import_module

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection

from testproject.shop import partners

application = get_wsgi_application()
import_module(settings.ROOT_URLCONF)
# Imports the database's driver, and connects to nothing.
vendor = connection.vendor
# No server listens there, but all that a call needs is imported.
settings.SHOP_PROVIDER_URL, address = "http://127.0.0.1:9", settings.SHOP_PROVIDER_URL
with suppress(partners.ProviderDownError):
    partners.find_charge(idempotency_key="")
settings.SHOP_PROVIDER_URL = address
