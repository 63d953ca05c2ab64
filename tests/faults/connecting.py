"""Connections as a project may have configured them, and the test's own again afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections

#: Whether PgBouncer stands before the server of this run: sessions are its own then.
BEHIND_PGBOUNCER = bool(connections["default"].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))

# What Django remembers of DATABASES["..."]["TIME_ZONE"].
_CACHED = ("timezone", "timezone_name")


def _forget(alias: str) -> None:
    """Close this thread's connection and the pool, and forget what was read from the settings."""
    connection: Any = connections[alias]
    connection.close()
    if getattr(connection, "pool", None):
        connection.close_pool()
    for name in _CACHED:
        vars(connection).pop(name, None)


@contextmanager
def connected(
    alias: str = "default", options: Mapping[str, Any] | None = None, **changes: Any
) -> Iterator[None]:
    """Connections made inside, in any thread, have these settings; ``options`` are added."""
    settings = connections[alias].settings_dict
    before = dict(settings)
    _forget(alias)
    settings |= changes | {"OPTIONS": settings["OPTIONS"] | (options or {})}
    try:
        yield
    finally:
        _forget(alias)
        settings.clear()
        settings |= before


def asked(alias: str, question: str) -> Any:
    """The one value a statement returns."""
    with connections[alias].cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    return row[0]
