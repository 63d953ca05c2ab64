"""System checks: what would go wrong in a request is said by ``manage.py check``."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, cast

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router

from . import codecs, conf
from .dialects import DIALECTS
from .models import IdempotencyRecord
from .policy import fault, resolve, setting
from .responses import REPLAYED_HEADER


def _is_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def _is_patterns(value: object) -> bool:
    try:
        return _is_texts(value) and all(map(re.compile, cast(list[str], value)))
    except re.error:
        return False


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_duration(value: object) -> bool:
    return isinstance(value, timedelta) and value > timedelta()


def _is_callable_path(value: object) -> bool:
    try:
        return value is None or (isinstance(value, str) and callable(conf.imported(value)))
    except ImportError:
        return False


def _is_harmless_headers(value: object) -> bool:
    """What proves who asks must not be stored with a request."""
    secret = {"authorization", "proxy-authorization", "cookie"}
    secret |= {name.lower() for name in conf.credential_headers()}
    return _is_texts(value) and secret.isdisjoint(
        name.lower().replace("_", "-") for name in cast(list[str], value)
    )


# The settings that are no options: what each must be, in words, and whether a value is that.
_PROJECT_WIDE: dict[str, tuple[str, Callable[[object], bool]]] = {
    "BODY_CODEC": (
        "the name or dotted path of a codec, or a list of some",
        lambda value: isinstance(value, str) or _is_texts(value),
    ),
    "CACHE": (
        "the alias of a cache, or None",
        lambda value: value in ("", None, *settings.CACHES),
    ),
    "CACHE_INFLIGHT": ("True or False", lambda value: isinstance(value, bool)),
    "CACHE_MAX_AGE": ("a positive timedelta", _is_duration),
    "CACHE_MAX_BYTES": ("a whole number from 1", _is_positive),
    "CACHE_RETRY": ("a positive timedelta", _is_duration),
    "COMPLETER_ATTEMPTS": ("a whole number from 1", _is_positive),
    "COMPLETER_REQUEST": ("the dotted path of a callable(request, record)", _is_callable_path),
    "CREDENTIAL_HEADERS": ("a list of header names", _is_texts),
    "ENABLED": ("True or False", lambda value: isinstance(value, bool)),
    "ENQUEUE": ("the dotted path of a callable(record_id, using)", _is_callable_path),
    "EXEMPT_URLS": ("a list of regular expressions", _is_patterns),
    # E005 looks at them: a message of E001 would show them.
    "FERNET_KEYS": ("a list of keys", lambda value: True),
    "LOG_KEYS": ("True or False", lambda value: isinstance(value, bool)),
    "MAX_REQUEST_BYTES": ("a whole number from 1", _is_positive),
    "MAX_STEP_BYTES": ("a whole number from 1", _is_positive),
    "PREPARE": ("True, False or None", lambda value: value is None or isinstance(value, bool)),
    "PROBLEM_TYPE_BASE": ("a string", lambda value: isinstance(value, str)),
    "QUOTA_CACHE": ("the alias of a cache", lambda value: value in list(settings.CACHES)),
    "REQUEST_HEADERS": (
        "a list of header names without Authorization, Cookie and the like",
        _is_harmless_headers,
    ),
    "STATISTICS": ("True or False", lambda value: isinstance(value, bool)),
    "STEP_DRIFT": ('"error" or "warn"', lambda value: value in ("error", "warn")),
    "URLS": ("a list of regular expressions", _is_patterns),
}


def _fault_of_setting(name: str) -> str | None:
    if name != name.upper():
        return None
    if name in _PROJECT_WIDE:
        words, accepts = _PROJECT_WIDE[name]
        return None if accepts(conf.value(name)) else f"must be {words}, not {conf.value(name)!r}."
    option = name.lower()
    problem = fault(option, None)
    if problem and problem.startswith("there is no option"):
        return problem
    try:
        return fault(option, setting(option))
    except ImportError as error:
        return str(error)


@register(Tags.compatibility)
def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """E001: each ``IDEMPOTENCY_...`` setting is known, and of its type."""
    for name in conf.names():
        if problem := _fault_of_setting(name):
            yield Error(
                f"{conf.PREFIX}{name}: {problem}",
                hint="See the table of options in the documentation.",
                id="django_idempotency.E001",
            )


@register(Tags.database)
def check_autocommit(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """E002: a claim must be able to commit by itself."""
    for alias in connections:
        if not connections[alias].settings_dict["AUTOCOMMIT"]:
            yield Error(
                f'The database "{alias}" has AUTOCOMMIT switched off.',
                hint="A claim must be visible before the view runs. Remove AUTOCOMMIT: False.",
                id="django_idempotency.E002",
            )


@register(Tags.database, deploy=True)
def check_sqlite(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W008: SQLite's transactions begin so that a view which reads first may still write."""
    alias = router.db_for_write(IdempotencyRecord)
    connection = connections[alias]
    if connection.vendor == "sqlite" and getattr(connection, "transaction_mode", None) is None:
        yield Warning(
            f'SQLite begins the transactions of "{alias}" DEFERRED.',
            hint='OPTIONS = {"transaction_mode": "IMMEDIATE"}: a view that reads and then writes'
            ' never meets "database is locked".',
            id="django_idempotency.W008",
        )


@register(Tags.database, deploy=True)
def check_tables(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W009: the table of records is there."""
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
def check_vendor(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """E003: the database of the records is one whose locks are known."""
    alias = router.db_for_write(IdempotencyRecord)
    vendor = connections[alias].vendor
    if vendor not in DIALECTS:
        yield Error(
            f'The database "{alias}" is {vendor}, which is not supported.',
            hint=f"Supported: {', '.join(DIALECTS)}.",
            id="django_idempotency.E003",
        )


@register(Tags.compatibility)
def check_atomic_requests(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W001: several databases cannot commit as one."""
    aliases = [a for a in connections if connections[a].settings_dict["ATOMIC_REQUESTS"]]
    others = sorted(set(aliases) - {router.db_for_write(IdempotencyRecord)})
    if others:
        yield Warning(
            f"ATOMIC_REQUESTS is on for databases without the records: {', '.join(others)}.",
            hint="They commit before the record: a crash between the two may repeat their writes.",
            id="django_idempotency.W001",
        )


@register(Tags.compatibility)
def check_prepared(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """W014: what is prepared is there when it is needed."""
    alias = router.db_for_write(IdempotencyRecord)
    if conf.prepares() and connections[alias].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        yield Warning(
            f'Statements are prepared for the database "{alias}", which seems to be a pooler.',
            hint="PgBouncer's transaction mode needs max_prepared_statements above 0 for them; or"
            " set IDEMPOTENCY_PREPARE to False.",
            id="django_idempotency.W014",
        )


def _lacking(name: str, wanted: Iterable[str]) -> list[str]:
    """Those of the wanted headers that a setting of django-cors-headers does not list."""
    listed = {header.lower() for header in getattr(settings, name, ())}
    return [header for header in wanted if header.lower() not in listed and "*" not in listed]


@register(Tags.compatibility)
def check_cors(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """W002 and W003: code in another site's pages may send a key, and read what became of it."""
    if not apps.is_installed("corsheaders"):
        return
    if unsent := _lacking("CORS_ALLOW_HEADERS", resolve({}).headers):
        yield Warning(
            f"CORS_ALLOW_HEADERS lacks {', '.join(unsent)}: browsers refuse to send a key.",
            hint="CORS_ALLOW_HEADERS = (*corsheaders.defaults.default_headers, "
            + ", ".join(f'"{name.lower()}"' for name in unsent)
            + ")",
            id="django_idempotency.W002",
        )
    if unread := _lacking("CORS_EXPOSE_HEADERS", (REPLAYED_HEADER, "Retry-After")):
        yield Warning(
            f"CORS_EXPOSE_HEADERS lacks {', '.join(unread)}: scripts cannot read them.",
            hint=f'CORS_EXPOSE_HEADERS = ["{REPLAYED_HEADER}", "Retry-After"]',
            id="django_idempotency.W003",
        )


@register(Tags.security)
def check_codecs(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """E005: responses can be written and read as the project wishes."""
    for problem in codecs.faults():
        yield Error(
            f"Stored bodies can be neither written nor read: {problem}",
            hint="Until then every request with a key is a 500, and no view runs.",
            id="django_idempotency.E005",
        )
