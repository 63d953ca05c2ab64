"""The project's settings: each is declared once, with its default and with what it must be.

Each is a function that returns the value: ``conf.enabled()``. It looks the value up at its first
call, and again after Django's signal ``setting_changed``, so ``override_settings`` just works.
"""

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

PREFIX = "IDEMPOTENCY_"

T = TypeVar("T")


def _unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Rule:
    """What a value must be, in words, and whether a value is that."""

    words: str
    accepts: Callable[[Any], bool]
    is_secret: bool = False

    def or_none(self) -> "Rule":
        """The same rule, which accepts None, too."""
        words, accepts = f"{self.words}, or None", self.accepts
        return replace(self, words=words, accepts=lambda value: value is None or accepts(value))

    def fault(
        self, name: str, value: object, read: Callable[[Any], Any] = _unchanged
    ) -> str | None:
        """What is wrong with what ``read`` makes of a value, as a sentence; None if nothing is."""
        reason = ""
        try:
            if self.accepts(read(value)):
                return None
        except Exception as error:  # an import may raise any
            reason = f" ({error})"
        shown = "" if self.is_secret else f", not {value!r}{reason}"
        return f"{name} must be {self.words}{shown}."


def _tuple_of(kind: Any) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, tuple) and all(isinstance(each, kind) for each in value)


_is_texts = _tuple_of(str)


# Paths are matched without their leading slash, so a pattern that begins with one misses them.
_SLASH_FIRST = re.compile(r"(\^|\\A)?\\?/")


def _is_patterns(value: Any) -> bool:
    return (
        _is_texts(value) and all(map(re.compile, value)) and not any(map(_SLASH_FIRST.match, value))
    )


def _is_cache(value: object) -> bool:
    return isinstance(value, str) and value in settings.CACHES


def _is_without_secrets(value: Any) -> bool:
    """Credentials must not be stored with a request."""
    secret = {"authorization", "proxy-authorization", "cookie"}
    secret |= {name.lower() for name in credential_headers()}
    return _is_texts(value) and secret.isdisjoint(each.lower().replace("_", "-") for each in value)


def whole_number(least: int) -> Rule:
    """The rule for a count or a size."""
    return Rule(
        f"a whole number from {least}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least,
    )


def one_of(*texts: str) -> Rule:
    """The rule for a choice between texts."""
    words = " or ".join(f'"{text}"' for text in texts)
    return Rule(words, lambda value: isinstance(value, str) and value in texts)


def _path_of(signature: str) -> Rule:
    words = f"the dotted path of a {signature}"
    return Rule(words, lambda value: isinstance(value, str) and callable(import_string(value)))


FLAG = Rule("True or False", lambda value: isinstance(value, bool))
# Databases and Python end with the year 9999.
_LONGEST = timedelta(days=36500)
DURATION = Rule(
    "a positive timedelta of at most 100 years",
    lambda value: isinstance(value, timedelta) and timedelta(milliseconds=1) <= value <= _LONGEST,
)
_TEXT = Rule("a string", lambda value: isinstance(value, str))
_CACHE = Rule("the alias of a cache", _is_cache)
# None is read as "".
_REPLAY_CACHE = Rule("the alias of a cache, or None", lambda name: name == "" or _is_cache(name))
_CODECS = Rule("the name or dotted path of a codec, or a list of some", _is_texts)
# Each key is judged by the codec.
_KEYS = Rule("a list of keys", _tuple_of(object), is_secret=True)
_HEADERS = Rule("a list of header names", _is_texts)
_HARMLESS_HEADERS = Rule(
    "a list of header names without Authorization, Cookie and the like", _is_without_secrets
)
_PATTERNS = Rule("a list of regular expressions without a leading slash", _is_patterns)


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _listed_or_none(value: Any) -> Any:
    return () if value is None else _listed(value)


def _one_or_listed(value: Any) -> Any:
    return tuple(filter(None, [value])) if isinstance(value, str) else _listed_or_none(value)


def _text_or_none(value: Any) -> Any:
    return "" if value is None else value


@dataclass(frozen=True)
class Setting:
    """One setting: its default, and its rule for what ``read`` makes of the project's value."""

    name: str
    default: Any
    rule: Rule
    read: Callable[[Any], Any] = _unchanged

    def fault(self) -> str | None:
        """What is wrong with the project's value, as a sentence; None if nothing is."""
        if not hasattr(settings, self.name):
            return None
        return self.rule.fault(self.name, getattr(settings, self.name), self.read)

    def value(self) -> Any:
        """The project's value or the default; raises ImproperlyConfigured if it is wrong."""
        if problem := self.fault():
            raise ImproperlyConfigured(problem)
        is_set = hasattr(settings, self.name)
        return self.read(getattr(settings, self.name)) if is_set else self.default


#: Every setting of this package, by its name.
SETTINGS: dict[str, Setting] = {}

_readers: "list[functools._lru_cache_wrapper[Any]]" = []


def declare(
    name: str, default: T, rule: Rule, read: Callable[[Any], Any] = _unchanged
) -> Callable[[], T]:
    """Add a setting; what is returned looks its value up once, because Django takes its time."""
    setting = Setting(PREFIX + name, default, rule, read)
    SETTINGS[setting.name] = setting
    _readers.append(functools.cache(setting.value))
    return _readers[-1]


# Whether keys count at all; switched off, covered views run as they do without a key.
enabled = declare("ENABLED", True, FLAG)
# Headers that tell callers apart where no user is logged in: the usual names.
credential_headers: Callable[[], tuple[str, ...]] = declare(
    "CREDENTIAL_HEADERS",
    ("Authorization", "X-Api-Key", "Api-Key", "X-Auth-Token", "X-Access-Token"),
    _HEADERS,
    _listed,
)
# What is put before an error's code to make its ``type`` URI (RFC 9457); empty for none.
problem_type_base = declare("PROBLEM_TYPE_BASE", "", _TEXT)
# Whether logs show keys as they are; a key is a secret where nobody is logged in.
logs_keys = declare("LOG_KEYS", False, FLAG)
# Whether what happens to keys is counted for the dashboard.
keeps_statistics = declare("STATISTICS", True, FLAG)
# Whether PostgreSQL keeps the plans of the package's statements, connection by connection. None:
# only where no pooler stands between, which may hand each transaction to another server.
prepares: Callable[[], bool | None] = declare("PREPARE", None, FLAG.or_none())
# The codecs that a stored body goes through, in this order.
body_codecs: Callable[[], tuple[str, ...]] = declare(
    "BODY_CODEC", (), _CODECS.or_none(), _one_or_listed
)
# The keys that stored bodies are encrypted with, newest first.
fernet_keys: Callable[[], tuple[str | bytes, ...]] = declare(
    "FERNET_KEYS", (), _KEYS.or_none(), _listed_or_none
)
# The alias of the cache that counts callers' keys.
quota_cache = declare("QUOTA_CACHE", "default", _CACHE)

# Regular expressions for the paths the middleware covers, without the leading slash.
urls: Callable[[], tuple[str, ...]] = declare("URLS", ("",), _PATTERNS, _listed)
# Regular expressions for the paths the middleware leaves alone.
exempt_urls: Callable[[], tuple[str, ...]] = declare("EXEMPT_URLS", (), _PATTERNS, _listed)

# The alias of the cache in front of the records; empty for none.
cache_alias = declare("CACHE", "", _REPLAY_CACHE, _text_or_none)
# How long an entry of that cache counts at most: what a lost invalidation can cost. A retry storm
# lasts seconds, and a later retry fills it again.
cache_max_age = declare("CACHE_MAX_AGE", timedelta(seconds=60), DURATION)
# The largest response that is put there, with its headers.
cache_max_bytes = declare("CACHE_MAX_BYTES", 64 * 1024, whole_number(1))
# Whether the cache may answer duplicates of a running request, too.
cache_inflight = declare("CACHE_INFLIGHT", False, FLAG)
# How long a cache that failed is left alone.
cache_retry = declare("CACHE_RETRY", timedelta(seconds=5), DURATION)

# What happens when a recorded step is called with other arguments.
step_drift = declare("STEP_DRIFT", "error", one_of("error", "warn"))
# The longest result of a step, as JSON; a longer one belongs into a table of its own.
max_step_bytes = declare("MAX_STEP_BYTES", 256 * 1024, whole_number(1))
# Headers that are stored with a request for the completer, beside those of its content.
request_headers: Callable[[], tuple[str, ...]] = declare(
    "REQUEST_HEADERS", (), _HARMLESS_HEADERS, _listed
)
# The longest body that is stored for the completer.
max_request_bytes = declare("MAX_REQUEST_BYTES", 1024 * 1024, whole_number(1))
# How often completers take up an operation before they leave it to a person: with the pauses
# between them, some 18 hours.
completer_attempts = declare("COMPLETER_ATTEMPTS", 30, whole_number(1))
# The dotted path of what completes a stored request before it is made again.
completer_request: Callable[[], str | None] = declare(
    "COMPLETER_REQUEST", None, _path_of("callable(request, record)").or_none()
)
# The dotted path of what tells a task queue of an operation.
enqueue: Callable[[], str | None] = declare(
    "ENQUEUE", None, _path_of("callable(record_id, using)").or_none()
)


def faults() -> Iterator[str]:
    """What is wrong with the project's settings, as sentences that name them."""
    return filter(None, (setting.fault() for setting in SETTINGS.values()))


def foreign() -> list[str]:
    """The project's settings that begin like those of this package, and are none of them."""
    return [
        name
        for name in dir(settings)
        if name.startswith(PREFIX) and name.isupper() and name not in SETTINGS
    ]


def forget_settings(**kwargs: Any) -> None:
    """Look everything up anew; receives ``setting_changed``."""
    for reader in _readers:
        reader.cache_clear()
