"""A server of the run's kind that one test has for itself and may crash, with its tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection, connections

from django_idempotency.models import IdempotencyRecord
from tests.app.models import Delivery, Order
from tests.support.servers import MariaDB, PostgreSQL, Server, ServerUnavailableError

#: The alias under which this process sees it.
ALIAS = "own"
# What tests.settings would make of the server's URL.
NAME = "test_idempotency"


def _kind() -> Server:
    if connection.vendor == "mysql":
        return MariaDB()
    with connection._nodb_cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        version = str(int(cursor.fetchone()[0]) // 10000)
    return PostgreSQL(version if version in PostgreSQL.versions else PostgreSQL.versions[-1])


def _settings(server: Server, name: str) -> dict[str, Any]:
    url = urlsplit(server.url)
    place = {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "NAME": name}
    own = connections["default"].settings_dict
    plain = {name: value for name, value in own["OPTIONS"].items() if name != "pool"}
    return own | place | {"OPTIONS": plain, "CONN_MAX_AGE": 0}


@contextmanager
def _known_as(alias: str, settings: dict[str, Any]) -> Iterator[None]:
    connections.settings[alias] = settings
    try:
        yield
    finally:
        connections[alias].close()
        del connections[alias]
        del connections.settings[alias]


@contextmanager
def own_server(alias: str = ALIAS) -> Iterator[Server]:
    """A running server under ``alias``, with the tables that orders need.

    The test is skipped where no server can be started. It must not be marked ``django_db``, which
    would forbid the alias.
    """
    if connection.vendor == "sqlite":
        pytest.skip("SQLite is no server")
    try:
        with _kind() as server:
            first = _known_as(alias, _settings(server, "idempotency"))
            with first, connections[alias].cursor() as cursor:
                cursor.execute(f"CREATE DATABASE {NAME}")
            with _known_as(alias, _settings(server, NAME)):
                with connections[alias].schema_editor() as editor:
                    for model in (IdempotencyRecord, Order, Delivery):
                        editor.create_model(model)
                connections[alias].close()
                yield server
    except ServerUnavailableError as error:
        pytest.skip(str(error))
