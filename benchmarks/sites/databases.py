"""The database of a site: one for each contestant on a server that all share, or a file.

``IDEMPOTENCY_TEST_DATABASE`` is the server's URL, or ``sqlite:///FOLDER``.
"""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tests.support.servers import DATABASE_VARIABLE

#: Seconds. Longer than any run: what connecting costs is not asked here.
MAX_AGE = 3600


def database_name(name: str) -> str:
    """What a contestant's database is called."""
    return "bench_" + name.replace("-", "_")


def database(contestant: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What DATABASES has; ``own`` are options of the connection that this contestant has alone."""
    url = urlsplit(os.environ[DATABASE_VARIABLE])
    made = {"postgresql": _postgresql, "mysql": _mysql, "sqlite": _sqlite}[url.scheme]
    settings = made(url, database_name(contestant))
    settings["OPTIONS"] |= own
    # Made by Django as its tests' databases are, and used under the same name.
    return {**settings, "CONN_MAX_AGE": MAX_AGE, "TEST": {"NAME": settings["NAME"]}}


def _server(url: SplitResult, name: str) -> dict[str, Any]:
    return {"HOST": url.hostname, "PORT": url.port, "USER": url.username, "NAME": name}


def _postgresql(url: SplitResult, name: str) -> dict[str, Any]:
    return _server(url, name) | {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}}


def _mysql(url: SplitResult, name: str) -> dict[str, Any]:
    import_module("pymysql").install_as_MySQLdb()
    options = {"charset": "utf8mb4", "ssl_disabled": True}
    return _server(url, name) | {"ENGINE": "django.db.backends.mysql", "OPTIONS": options}


def _sqlite(url: SplitResult, name: str) -> dict[str, Any]:
    options = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL",
        "timeout": 20,
    }
    file = f"{url.path}/{name}.sqlite3"
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": file, "OPTIONS": options}
