"""The project's settings, read at the moment of use so that ``override_settings`` just works."""

from datetime import timedelta
from typing import Any, cast

from django.conf import settings
from django.utils.module_loading import import_string

PREFIX = "IDEMPOTENCY_"


# The settings that the project lacks: Django would look for them anew each time, and find nothing
# at the price of an exception.
_absent: set[str] = set()


def _get(name: str, default: Any) -> Any:
    if name in _absent:
        return default
    try:
        return getattr(settings, name)
    except AttributeError:
        _absent.add(name)
        return default


def forget_absent(**kwargs: Any) -> None:
    """Look again for what was not there; receives ``setting_changed``."""
    _absent.clear()


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
    return tuple(_get("IDEMPOTENCY_CREDENTIAL_HEADERS", ("Authorization",)))


def problem_type_base() -> str:
    """What is put before an error's code to make its ``type`` URI (RFC 9457); empty for none."""
    return str(_get("IDEMPOTENCY_PROBLEM_TYPE_BASE", ""))


def enabled() -> bool:
    """Whether keys count at all; switched off, covered views run as they do without a key."""
    return bool(_get("IDEMPOTENCY_ENABLED", True))


def logs_keys() -> bool:
    """Whether logs show keys as they are; a key is a secret where nobody is logged in."""
    return bool(_get("IDEMPOTENCY_LOG_KEYS", False))


def keeps_statistics() -> bool:
    """Whether what happens to keys is counted for the dashboard."""
    return bool(_get("IDEMPOTENCY_STATISTICS", True))


def prepares() -> bool | None:
    """Whether PostgreSQL keeps the plans of the package's statements, connection by connection.

    None: where nothing stands between, for a pooler may hand each transaction to another server.
    """
    wish = _get("IDEMPOTENCY_PREPARE", None)
    return None if wish is None else bool(wish)


def body_codecs() -> tuple[str, ...]:
    """What stored bodies go through, in this order: names or dotted paths of codecs."""
    codecs = _get("IDEMPOTENCY_BODY_CODEC", None) or ()
    return (codecs,) if isinstance(codecs, str) else tuple(codecs)


def fernet_keys() -> tuple[str | bytes, ...]:
    """The keys stored bodies are encrypted with, newest first."""
    return tuple(_get("IDEMPOTENCY_FERNET_KEYS", None) or ())


def quota_cache() -> str:
    """The alias of the cache that counts callers' keys."""
    return str(_get("IDEMPOTENCY_QUOTA_CACHE", "default"))


def step_drift() -> str:
    """What happens when a recorded step is called with other arguments: ``error`` or ``warn``."""
    return str(_get("IDEMPOTENCY_STEP_DRIFT", "error"))


def max_step_bytes() -> int:
    """The longest result of a step, as JSON; what does not fit belongs into a table of its own."""
    return int(_get("IDEMPOTENCY_MAX_STEP_BYTES", 256 * 1024))


def request_headers() -> tuple[str, ...]:
    """Headers that are stored with a request for the completer, beside those of its content."""
    return tuple(_get("IDEMPOTENCY_REQUEST_HEADERS", ()))


def max_request_bytes() -> int:
    """The longest body that is stored for the completer."""
    return int(_get("IDEMPOTENCY_MAX_REQUEST_BYTES", 1024 * 1024))


def completer_attempts() -> int:
    """How often completers take up an operation before they leave it to a person."""
    # With the pauses between them, some 18 hours.
    return int(_get("IDEMPOTENCY_COMPLETER_ATTEMPTS", 30))


def completer_request() -> str | None:
    """The dotted path of a callable(request, record) that completes a rebuilt request."""
    return cast(str | None, _get("IDEMPOTENCY_COMPLETER_REQUEST", None))


def enqueue() -> str | None:
    """The dotted path of a callable(record_id, using) that tells a task queue of an operation."""
    return cast(str | None, _get("IDEMPOTENCY_ENQUEUE", None))


def cache_alias() -> str:
    """The alias of the cache that replays stand in; empty for none."""
    return str(_get("IDEMPOTENCY_CACHE", None) or "")


def cache_max_age() -> timedelta:
    """How long an entry of that cache counts at most: what a lost invalidation can cost."""
    # A retry storm lasts seconds, and a later retry fills it again.
    return cast(timedelta, _get("IDEMPOTENCY_CACHE_MAX_AGE", timedelta(seconds=60)))


def cache_max_bytes() -> int:
    """The largest response that is put there, with its headers."""
    return int(_get("IDEMPOTENCY_CACHE_MAX_BYTES", 64 * 1024))


def cache_inflight() -> bool:
    """Whether the cache may answer duplicates of a running request, too."""
    return bool(_get("IDEMPOTENCY_CACHE_INFLIGHT", False))


def cache_retry() -> timedelta:
    """How long a cache that failed is left alone."""
    return cast(timedelta, _get("IDEMPOTENCY_CACHE_RETRY", timedelta(seconds=5)))


def urls() -> tuple[str, ...]:
    """Regular expressions for the paths the middleware covers, without the leading slash."""
    return tuple(_get("IDEMPOTENCY_URLS", ("",)))


def exempt_urls() -> tuple[str, ...]:
    """Regular expressions for the paths the middleware leaves alone."""
    return tuple(_get("IDEMPOTENCY_EXEMPT_URLS", ()))


def names() -> list[str]:
    """Every ``IDEMPOTENCY_...`` setting the project has, without the prefix."""
    return [name.removeprefix(PREFIX) for name in dir(settings) if name.startswith(PREFIX)]
