"""The site for gunicorn, imported to the last module before the workers are forked.

A worker is killed several times a second: its successor must not begin by importing Django.
"""

from importlib import import_module

from django.core.wsgi import get_wsgi_application
from django.db import connection

application = get_wsgi_application()
import_module("tests.chaos.site")
# Imports the database's driver, and connects to nothing.
vendor = connection.vendor
