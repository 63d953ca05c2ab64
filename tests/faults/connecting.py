"""Connections as a project may configure them; afterwards the test's own are back."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.db import connections

#: Whether PgBouncer is in front of the server of this run; then the sessions are PgBouncer's.
BEHIND_PGBOUNCER = bool(connections["default"].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"))

# The attributes in which Django caches DATABASES["..."]["TIME_ZONE"].
_CACHED = ("timezone", "timezone_name")


def _forget(alias: str) -> None:
    """This thread's connection and the pool are closed, and the settings will be read anew."""
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
    """The only value that a statement returns."""
    with connections[alias].cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    return row[0]
