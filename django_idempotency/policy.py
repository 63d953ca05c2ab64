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
from typing import Annotated, Any, get_args

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from . import conf
from .conf import DURATION, FLAG, Rule, one_of, whole_number

Options = Mapping[str, Any]

# Longer than most orders take, shorter than the spinner a person gives up on.
_PATIENCE_OF_A_PERSON = timedelta(seconds=5)


def _is_header(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9-]+", value) is not None


def _is_headers(value: Any) -> bool:
    several = isinstance(value, list | tuple) and len(value) > 0
    return _is_header(value) or (several and all(map(_is_header, value)))


def _is_alias(value: object) -> bool:
    return isinstance(value, str) and value in set(connections)


def _is_methods(value: object) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(method, str) and method.isupper() for method in value
    )


_HEADERS = Rule("a header name or a list of some", _is_headers)
_HEADER_NAMES = Rule(
    "a list of header names",
    lambda value: isinstance(value, list | tuple) and all(map(_is_header, value)),
)
_FIELD = Rule("a form field's name", lambda value: isinstance(value, str) and value != "").or_none()
_METHODS = Rule('a list of upper-case methods such as ["POST"]', _is_methods)
_WAIT = Rule(
    "a timedelta, zero or more",
    lambda value: isinstance(value, timedelta) and value >= timedelta(),
).or_none()
_OF_REQUEST = Rule("a callable(request)", callable).or_none()
_OF_RESPONSE = Rule("a callable(response)", callable).or_none()
_USING = Rule(
    "a database alias, a callable(request)", lambda value: callable(value) or _is_alias(value)
).or_none()


def _named(value: Any) -> Any:
    """The object behind a dotted path, which is how settings name callables."""
    return import_string(value) if isinstance(value, str) and not _is_alias(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The options of one covered view, each with its rule. Sizes are in bytes."""

    header: Annotated[str | Collection[str], _HEADERS] = "Idempotency-Key"
    field: Annotated[str | None, _FIELD] = None
    get_key: Annotated[Callable[[HttpRequest], str | None] | None, _OF_REQUEST, _named] = None
    required: Annotated[bool, FLAG] = False
    # POST and PATCH are the methods HTTP itself does not call idempotent (RFC 9110, 9.2.2).
    methods: Annotated[Collection[str], _METHODS] = ("POST", "PATCH")
    scope: Annotated[Callable[[HttpRequest], str] | None, _OF_REQUEST, _named] = None
    fingerprint: Annotated[Callable[[HttpRequest], bytes] | None, _OF_REQUEST, _named] = None
    fingerprint_headers: Annotated[Collection[str], _HEADER_NAMES] = ()
    fingerprint_host: Annotated[bool, FLAG] = True
    # A day covers a night's outage, and is what clients of the large payment APIs count on.
    retention: Annotated[timedelta, DURATION] = timedelta(hours=24)
    # Longer than the time-out of common application servers (30 s), so that a claim which nothing
    # but the clock protects is not taken from a worker that is merely slow.
    lease: Annotated[timedelta, DURATION] = timedelta(seconds=60)
    wait: Annotated[timedelta | None, _WAIT] = None
    # A waiter occupies a thread of the server: two leave half of the smallest usual pool (4) free.
    max_waiters: Annotated[int, whole_number(0)] = 2
    keep_response: Annotated[Callable[[HttpResponseBase], bool] | None, _OF_RESPONSE, _named] = None
    atomic: Annotated[bool, FLAG] = True
    using: Annotated[str | Callable[[HttpRequest], str] | None, _USING, _named] = None
    max_attempts: Annotated[int | None, whole_number(1).or_none()] = None
    max_response_bytes: Annotated[int, whole_number(0)] = 1024 * 1024
    # StoredResponse to StoredResponse, which stands in a layer above.
    redact: Annotated[Callable[[Any], Any] | None, _OF_RESPONSE, _named] = None
    max_keys_per_scope: Annotated[int | None, whole_number(1).or_none()] = None
    keep_request: Annotated[bool, FLAG] = False
    respond: Annotated[str, one_of("result", "accepted")] = "result"

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


# The default of each option, its rule, and how its setting is read if not as it is.
_DECLARED = {each.name: (each.default, *get_args(each.type)[1:]) for each in fields(Policy)}
# What reads the project's own default for each option.
_SETTINGS = {name: conf.declare(name.upper(), *declared) for name, declared in _DECLARED.items()}


def fault(option: str, value: object) -> str | None:
    """What is wrong with ``value`` for ``option``, as a sentence; None when nothing is."""
    if option not in _DECLARED:
        return f"there is no option {option!r}; the options are {', '.join(_DECLARED)}."
    rule: Rule = _DECLARED[option][1]
    return rule.fault(option, value)


def checked(options: Options, where: str) -> Options:
    """The same options; raises ImproperlyConfigured, naming ``where``, for a wrong one."""
    for option, value in options.items():
        if problem := fault(option, value):
            raise ImproperlyConfigured(f"{where}: {problem}")
    return options


@functools.cache
def _configured() -> Policy:
    # A setting that is read only after the COMMIT must not be found wrong there.
    for problem in conf.faults():
        raise ImproperlyConfigured(problem)
    return Policy(**{option: setting() for option, setting in _SETTINGS.items()})


@functools.lru_cache(1024)
def _resolved(options: tuple[tuple[str, Any], ...]) -> Policy:
    return replace(_configured(), **dict(options))


def resolve(options: Options) -> Policy:
    """The policy of these options; raises ImproperlyConfigured if any setting is wrong."""
    if not options:
        return _configured()
    # A method of one request's view must not be remembered, and a list cannot be.
    if any(isinstance(value, MethodType | list | set) for value in options.values()):
        return replace(_configured(), **options)
    return _resolved(tuple(options.items()))


def differences(inner: Policy, outer: Policy) -> list[str]:
    """The options that an inner door was given, and that do not hold under the outer one."""
    names = [field.name for field in fields(Policy)]
    given, default, holding = (
        {name: _comparable(getattr(policy, name)) for name in names}
        for policy in (inner, resolve({}), outer)
    )
    return [name for name in names if given[name] not in (default[name], holding[name])]


def _comparable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | set | frozenset) else value


def forget_settings(**kwargs: Any) -> None:
    """Make the next request read the settings anew; receives ``setting_changed``."""
    _configured.cache_clear()
    _resolved.cache_clear()
