"""System checks: what would go wrong in a request is said by ``manage.py check``."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, cast

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from .. import codecs, conf
from ..http.responses import REPLAYED_HEADER
from ..policy import fault, resolve, setting


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
