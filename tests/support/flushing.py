"""Empties the test databases behind a test: deletes from the tables that hold rows, and no others.

Django's own way deletes from or truncates every table there is, asks the database which these are,
and announces a migration. It took half of the suite's time, for a row or two a test.
"""

from collections.abc import Iterator, Sequence

from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase

# A writer that is still busy is waited for, as Django does: its rows would be the next test's.
_WAIT = {"postgresql": "LOCK TABLE {} IN SHARE MODE"}
_LOOK = {"mysql": "EXISTS (SELECT 1 FROM {} LOCK IN SHARE MODE)"}


def _tables(connection: BaseDatabaseWrapper) -> list[str]:
    names = connection.introspection.django_table_names(include_views=False)
    return [connection.ops.quote_name(name) for name in sorted(names)]


def _filled(connection: BaseDatabaseWrapper, tables: Sequence[str]) -> Iterator[str]:
    look = _LOOK.get(connection.vendor, "EXISTS (SELECT 1 FROM {})")
    with connection.cursor() as cursor:
        if connection.vendor in _WAIT:
            cursor.execute(_WAIT[connection.vendor].format(", ".join(tables)))
        cursor.execute(f"SELECT {', '.join(map(look.format, tables))}")
        row = cursor.fetchone()
    return (table for table, found in zip(tables, row, strict=True) if found)


def flush(alias: str) -> None:
    """No table of the database holds a row."""
    connection = connections[alias]
    with connection.constraint_checks_disabled(), transaction.atomic(using=alias):
        for table in _filled(connection, _tables(connection)):
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {table}")


def flush_all(case: TransactionTestCase) -> None:
    """Take the place of the test case's own method."""
    for alias in case._databases_names(include_mirrors=False):
        flush(alias)
    # Django remembers rows that are gone.
    ContentType.objects.clear_cache()
