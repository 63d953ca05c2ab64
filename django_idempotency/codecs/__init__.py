"""How bodies are stored: as they were sent, compressed, encrypted, or both.

A body is stored with the names of its codecs, so the setting may change at any time.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from .. import conf

#: The codecs that come with the package, by the names they are stored and configured under.
SHIPPED = {
    "gzip": "django_idempotency.codecs.compression.GzipCodec",
    "zstd": "django_idempotency.codecs.compression.ZstdCodec",
    "fernet": "django_idempotency.codecs.encryption.FernetCodec",
}
_NAME = re.compile(r"[a-z0-9._-]+")
_BETWEEN_NAMES = "+"
# The length of the column.
_LONGEST_NAMES = 32


class Codec(Protocol):
    """One way to store a body; a project's own is a class that is called without arguments.

    A body that ``encode`` returns unchanged is stored without the codec's name, and is not decoded.
    """

    name: str

    def encode(self, body: bytes, /) -> bytes:
        """The body as it is to be stored."""

    def decode(self, body: bytes, /) -> bytes:
        """The bytes that ``encode`` was given; may raise anything where it cannot restore them."""


class UndecodableError(Exception):
    """A stored body cannot be read: a key or a codec is missing, or the body is damaged."""


def _made(path: str) -> Codec:
    found: Any = import_string(SHIPPED.get(path, path))
    codec: Codec = found() if isinstance(found, type) else found
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise ImproperlyConfigured(f"{path} has no method {method}(body).")
    name = getattr(codec, "name", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ImproperlyConfigured(f"{path} has no name of small letters, digits, '.', '_', '-'.")
    return codec


@functools.cache
def configured() -> tuple[Codec, ...]:
    """The codecs of the project, in the order in which a body goes through them.

    Raises ImproperlyConfigured or ImportError.
    """
    codecs = tuple(map(_made, conf.body_codecs()))
    names = _BETWEEN_NAMES.join(codec.name for codec in codecs)
    if len(names) > _LONGEST_NAMES:
        raise ImproperlyConfigured(f"{names!r} is longer than {_LONGEST_NAMES} characters.")
    return codecs


@functools.cache
def _named(name: str) -> Codec:
    for codec in configured():
        if codec.name == name:
            return codec
    if name not in SHIPPED:
        raise LookupError(f"no codec {name!r} comes with the package or is in the settings")
    return _made(SHIPPED[name])


def encode(body: bytes) -> tuple[bytes, str]:
    """A body as it is to be stored, and the names of the codecs that changed it."""
    names = []
    for codec in configured():
        before, body = body, codec.encode(body)
        if body != before:
            names.append(codec.name)
    return body, _BETWEEN_NAMES.join(names)


def decode(body: bytes, names: str) -> bytes:
    """The same body as it was; raises UndecodableError."""
    try:
        for name in reversed(names.split(_BETWEEN_NAMES) if names else []):
            body = _named(name).decode(body)
    except Exception as error:
        raise UndecodableError(f"stored as {names}") from error
    return body


def faults() -> Iterator[str]:
    """What is wrong with the project's codecs and keys, as sentences."""
    try:
        configured()
    except Exception as error:
        yield f"IDEMPOTENCY_BODY_CODEC: {error}"
        return
    try:
        if conf.fernet_keys():
            _named("fernet")
    except Exception as error:
        yield f"IDEMPOTENCY_FERNET_KEYS: {error}"


def forget_settings(**kwargs: Any) -> None:
    """Make the next response read the settings anew; receives ``setting_changed``."""
    configured.cache_clear()
    _named.cache_clear()
