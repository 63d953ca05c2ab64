"""System checks that look at the project's databases."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router

from .. import conf
from ..models import IdempotencyRecord
from ..storage.dialects import DIALECTS
from .settings import check


def atomic_aliases() -> set[str]:
    """The databases with ATOMIC_REQUESTS."""
    return {alias for alias in connections if connections[alias].settings_dict["ATOMIC_REQUESTS"]}


@register(Tags.compatibility)
def check_autocommit(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E002: a claim must be able to commit by itself."""
    for alias in connections:
        if not connections[alias].settings_dict["AUTOCOMMIT"]:
            yield Error(
                f'The database "{alias}" has AUTOCOMMIT switched off.',
                hint="A claim must be visible before the view runs. Remove AUTOCOMMIT: False.",
                id="django_idempotency.E002",
            )


@register(Tags.compatibility, deploy=True)
def check_sqlite(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W008: SQLite's transactions take the write lock when they begin."""
    alias = router.db_for_write(IdempotencyRecord)
    connection = connections[alias]
    # The connection has no mode of its own before it is opened.
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode")
    if connection.vendor == "sqlite" and mode is None:
        yield Warning(
            f'SQLite begins the transactions of "{alias}" DEFERRED.',
            hint='OPTIONS = {"transaction_mode": "IMMEDIATE"}: a view that reads and then writes'
            ' never meets "database is locked".',
            id="django_idempotency.W008",
        )


@register(Tags.database, deploy=True)
def check_tables(
    app_configs: object, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W009: the table of records exists."""
    for alias in databases or ():
        wanted = router.allow_migrate_model(alias, IdempotencyRecord)
        tables = connections[alias].introspection.table_names()
        if wanted and IdempotencyRecord._meta.db_table not in tables:
            yield Warning(
                f'The database "{alias}" has no table of records.',
                hint=f"manage.py migrate --database {alias}",
                id="django_idempotency.W009",
            )


@register(Tags.compatibility)
def check_vendor(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """E003: the database of the records is supported."""
    alias = router.db_for_write(IdempotencyRecord)
    vendor = connections[alias].vendor
    if vendor not in DIALECTS:
        yield Error(
            f'The database "{alias}" is {vendor}, which is not supported.',
            hint=f"Supported: {', '.join(DIALECTS)}.",
            id="django_idempotency.E003",
        )


@register(Tags.compatibility)
def check_atomic_requests(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W001: only the database of the records has ATOMIC_REQUESTS; several cannot commit as one."""
    others = sorted(atomic_aliases() - {router.db_for_write(IdempotencyRecord)})
    if others:
        yield Warning(
            f"ATOMIC_REQUESTS is on for databases without the records: {', '.join(others)}.",
            hint="They commit before the record: a crash between the two may repeat their writes.",
            id="django_idempotency.W001",
        )


@check(Tags.compatibility)
def check_prepared(app_configs: object, **kwargs: Any) -> Iterator[CheckMessage]:
    """W014: statements are not prepared for one server connection and executed on another."""
    alias = router.db_for_write(IdempotencyRecord)
    if conf.prepares() and connections[alias].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield Warning(
            f'Statements are prepared for the database "{alias}", which seems to be a pooler.',
            hint="PgBouncer's transaction mode needs max_prepared_statements above 0 for them; or"
            " set IDEMPOTENCY_PREPARE to False.",
            id="django_idempotency.W014",
        )
