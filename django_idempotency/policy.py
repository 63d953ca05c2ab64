"""What one view asked for, with the project's settings and the defaults filled in.

The doors collect the options a view was given; :func:`resolve` makes a :class:`Policy` of them,
which the rest of the package reads. Precedence: argument, attribute, setting, default.
"""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from types import MethodType
from typing import Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from . import conf

Options = Mapping[str, Any]

# Longer than most orders take, shorter than the spinner a person gives up on.
_PATIENCE_OF_A_PERSON = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The options of one covered view. Durations are timedeltas, sizes are bytes."""

    header: str | Collection[str] = "Idempotency-Key"
    field: str | None = None
    get_key: Callable[[HttpRequest], str | None] | None = None
    required: bool = False
    # POST and PATCH are the methods HTTP itself does not call idempotent (RFC 9110, 9.2.2).
    methods: Collection[str] = ("POST", "PATCH")
    scope: Callable[[HttpRequest], str] | None = None
    fingerprint: Callable[[HttpRequest], bytes] | None = None
    # A day covers a night's outage, and is what clients of the large payment APIs count on.
    retention: timedelta = timedelta(hours=24)
    # Longer than the time-out of common application servers (30 s), so that a claim which nothing
    # but the clock protects is not taken from a worker that is merely slow.
    lease: timedelta = timedelta(seconds=60)
    wait: timedelta | None = None
    # A waiter occupies a thread of the server: two leave half of the smallest usual pool (4) free.
    max_waiters: int = 2
    keep_response: Callable[[HttpResponseBase], bool] | None = None
    atomic: bool = True
    using: str | Callable[[HttpRequest], str] | None = None
    max_attempts: int | None = None
    max_response_bytes: int = 1024 * 1024
    # StoredResponse to StoredResponse, which stands in a layer above.
    redact: Callable[[Any], Any] | None = None
    max_keys_per_scope: int | None = None
    keep_request: bool = False
    respond: str = "result"

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the request headers that may carry the key."""
        return (self.header,) if isinstance(self.header, str) else tuple(self.header)

    @property
    def keeps_request(self) -> bool:
        """Whether the request is stored until its operation is finished."""
        return self.keep_request or self.respond == "accepted"

    def for_a_person(self) -> "Policy":
        """The same, where the second of two clicks is to show what came of the first."""
        return self if self.wait is not None else replace(self, wait=_PATIENCE_OF_A_PERSON)

    def for_a_completer(self) -> "Policy":
        """The same, where nobody waits for the reply."""
        return replace(self, wait=None, respond="result", keep_request=True)

    def for_a_coroutine(self) -> "Policy":
        """The same without a transaction, which cannot be held while others use its thread."""
        return replace(self, atomic=False) if self.atomic else self


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_header(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9-]+", value) is not None


def _is_headers(value: object) -> bool:
    several = isinstance(value, list | tuple) and value != [] and value != ()
    return _is_header(value) or (several and all(map(_is_header, cast(list[object], value))))


def _is_alias(value: object) -> bool:
    return isinstance(value, str) and value in set(connections)


def _is_number(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_methods(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(method, str) and method.isupper() for method in value
    )


def _is_duration(value: object, least: timedelta) -> bool:
    return isinstance(value, timedelta) and value >= least


_A_MOMENT = timedelta(milliseconds=1)

# For each option: what it must be, in words, and whether a value is that.
_RULES: dict[str, tuple[str, Callable[[object], bool]]] = {
    "header": ("a header name or a list of some", _is_headers),
    "field": ("a form field's name or None", lambda value: value is None or _is_text(value)),
    "get_key": ("a callable(request) or None", lambda value: value is None or callable(value)),
    "required": ("True or False", lambda value: isinstance(value, bool)),
    "methods": ('a list of upper-case methods such as ["POST"]', _is_methods),
    "scope": ("a callable(request) or None", lambda value: value is None or callable(value)),
    "fingerprint": ("a callable(request) or None", lambda value: value is None or callable(value)),
    "retention": ("a positive timedelta", lambda value: _is_duration(value, _A_MOMENT)),
    "lease": ("a positive timedelta", lambda value: _is_duration(value, _A_MOMENT)),
    "wait": (
        "a timedelta, zero or more, or None",
        lambda value: value is None or _is_duration(value, timedelta(0)),
    ),
    "max_waiters": ("a whole number from 0", lambda value: _is_number(value, 0)),
    "keep_response": (
        "a callable(response) or None",
        lambda value: value is None or callable(value),
    ),
    "atomic": ("True or False", lambda value: isinstance(value, bool)),
    "using": (
        "a database alias, a callable(request) or None",
        lambda value: value is None or callable(value) or _is_alias(value),
    ),
    "max_attempts": (
        "a whole number from 1, or None",
        lambda value: value is None or _is_number(value, 1),
    ),
    "max_response_bytes": ("a whole number from 0", lambda value: _is_number(value, 0)),
    "redact": ("a callable(response) or None", lambda value: value is None or callable(value)),
    "max_keys_per_scope": (
        "a whole number from 1, or None",
        lambda value: value is None or _is_number(value, 1),
    ),
    "keep_request": ("True or False", lambda value: isinstance(value, bool)),
    "respond": ('"result" or "accepted"', lambda value: value in ("result", "accepted")),
}

_CALLABLES = frozenset(("get_key", "scope", "fingerprint", "keep_response", "using", "redact"))


def fault(option: str, value: object) -> str | None:
    """What is wrong with ``value`` for ``option``, as a sentence; None when nothing is."""
    if option not in _RULES:
        return f"there is no option {option!r}; the options are {', '.join(_RULES)}."
    words, accepts = _RULES[option]
    return None if accepts(value) else f"{option} must be {words}, not {value!r}."


def checked(options: Options, where: str) -> Options:
    """The same options, proved to be known and well-typed.

    Raises ImproperlyConfigured naming ``where`` they were given.
    """
    for option, value in options.items():
        if problem := fault(option, value):
            raise ImproperlyConfigured(f"{where}: {problem}")
    return options


def setting(option: str) -> Any:
    """The project's own default for ``option``; a dotted path is replaced by what it names."""
    value = conf.value(option)
    names_an_object = option in _CALLABLES and isinstance(value, str) and not _is_alias(value)
    return conf.imported(value) if names_an_object else value


@functools.cache
def _configured() -> Policy:
    options = (field.name for field in fields(Policy))
    return Policy(**{option: setting(option) for option in options if conf.is_overridden(option)})


@functools.lru_cache(1024)
def _resolved(options: tuple[tuple[str, Any], ...]) -> Policy:
    return replace(_configured(), **dict(options))


def resolve(options: Options) -> Policy:
    """The policy of a view that was given these options."""
    if not options:
        return _configured()
    # A method of one request's view must not be remembered, and a list cannot be.
    if any(isinstance(value, MethodType | list | set) for value in options.values()):
        return replace(_configured(), **options)
    return _resolved(tuple(options.items()))


def forget_settings(**kwargs: Any) -> None:
    """Make the next request read the settings anew; receives ``setting_changed``."""
    _configured.cache_clear()
    _resolved.cache_clear()
