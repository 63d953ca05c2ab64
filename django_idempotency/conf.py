"""The project's settings, read at the moment of use so that ``override_settings`` just works."""

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

PREFIX = "IDEMPOTENCY_"


def is_overridden(option: str) -> bool:
    """Whether the project sets a default of its own for ``option``."""
    return hasattr(settings, PREFIX + option.upper())


def value(option: str) -> Any:
    """The project's default for ``option``; raises AttributeError where it sets none."""
    return getattr(settings, PREFIX + option.upper())


def imported(dotted_path: str) -> Any:
    """The object a setting names by its dotted path; raises ImportError."""
    return import_string(dotted_path)


def credential_headers() -> tuple[str, ...]:
    """Headers that tell callers apart where no user is logged in."""
    return tuple(getattr(settings, "IDEMPOTENCY_CREDENTIAL_HEADERS", ("Authorization",)))


def problem_type_base() -> str:
    """What is put before an error's code to make its ``type`` URI (RFC 9457); empty for none."""
    return str(getattr(settings, "IDEMPOTENCY_PROBLEM_TYPE_BASE", ""))


def enabled() -> bool:
    """Whether keys count at all; switched off, covered views run as they do without a key."""
    return bool(getattr(settings, "IDEMPOTENCY_ENABLED", True))


def logs_keys() -> bool:
    """Whether logs show keys as they are; a key is a secret where nobody is logged in."""
    return bool(getattr(settings, "IDEMPOTENCY_LOG_KEYS", False))


def keeps_statistics() -> bool:
    """Whether what happens to keys is counted for the dashboard."""
    return bool(getattr(settings, "IDEMPOTENCY_STATISTICS", True))


def body_codecs() -> tuple[str, ...]:
    """What stored bodies go through, in this order: names or dotted paths of codecs."""
    codecs = getattr(settings, "IDEMPOTENCY_BODY_CODEC", None) or ()
    return (codecs,) if isinstance(codecs, str) else tuple(codecs)


def fernet_keys() -> tuple[str | bytes, ...]:
    """The keys stored bodies are encrypted with, newest first."""
    return tuple(getattr(settings, "IDEMPOTENCY_FERNET_KEYS", None) or ())


def quota_cache() -> str:
    """The alias of the cache that counts callers' keys."""
    return str(getattr(settings, "IDEMPOTENCY_QUOTA_CACHE", "default"))


def urls() -> tuple[str, ...]:
    """Regular expressions for the paths the middleware covers, without the leading slash."""
    return tuple(getattr(settings, "IDEMPOTENCY_URLS", ("",)))


def exempt_urls() -> tuple[str, ...]:
    """Regular expressions for the paths the middleware leaves alone."""
    return tuple(getattr(settings, "IDEMPOTENCY_EXEMPT_URLS", ()))


def names() -> list[str]:
    """Every ``IDEMPOTENCY_...`` setting the project has, without the prefix."""
    return [name.removeprefix(PREFIX) for name in dir(settings) if name.startswith(PREFIX)]
