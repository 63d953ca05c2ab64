"""The database as the hammer itself sees it, past the proxy: made ready before, read afterwards."""

import os
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

import django
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.models import Manager

from tests.support.servers import DATABASE_VARIABLE, Server

from .clients import STRANGER
from .history import Effect, Operation

_FIELDS = ("request", "caller", "key", "path", "payload", "nonce", "outcome", "at")


def prepare(server: Server | None, folder: Path) -> None:
    """Point Django at the database, here and in what is started later, and create the tables."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "IDEMPOTENCY_TEST_FOLDER": str(folder),
        DATABASE_VARIABLE: server.url if server else "sqlite",
    }
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    connection.close()


def version() -> str:
    """The database's name and version."""
    function = "sqlite_version()" if connection.vendor == "sqlite" else "version()"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}")
        (text,) = cursor.fetchone()
    return f"{connection.display_name} {text.removeprefix('PostgreSQL ').split()[0]}"


def _model(app: str, name: str) -> Manager[Any]:
    return apps.get_app_config(app).get_model(name)._default_manager


def effects() -> list[Effect]:
    """All that runs of the view have committed."""
    rows = _model("chaos", "Ledger").values(*_FIELDS)
    return [Effect(**row | {"at": row["at"].timestamp()}) for row in rows]


def operations(records: Collection[uuid.UUID]) -> set[Operation]:
    """Those whose records are among these."""
    return _operations(pk__in=records)


def unfinished() -> set[Operation]:
    """The operations whose records are in progress."""
    return _operations(status="in_progress")


def _operations(**condition: Any) -> set[Operation]:
    records = _model("django_idempotency", "IdempotencyRecord")
    found = records.filter(**condition).values_list("scope", "key", "path")
    return {
        Operation("" if scope == "anonymous" else STRANGER, key, path) for scope, key, path in found
    }
