"""A request's key and scope; together they identify the record.

The caller makes the key, the layer derives the scope. An invalid key raises its error here.
"""

import hashlib
import re
import uuid
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import conf
from ..exceptions import KeyInvalidError, KeyMissingError
from ..policy import Policy
from .requests import form_fields, sent_headers

# RFC 9651, 3.3.3: a String is printable ASCII between quotes, in which quotes and backslashes must
# be escaped, and nothing else may be.
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_ESCAPED = re.compile(r"\\(.)")
#: The longest key.
MAX_LENGTH = 255
_VISIBLE = re.compile(rf"[!-~]{{1,{MAX_LENGTH}}}")
# Servers join repeated header lines with commas, so a bare key with a comma is a list; one with a
# semicolon has parameters.
_NOT_IN_BARE = frozenset(',;"')
#: What a header's value looks like, bare or quoted; valid in Python and in ECMA 262.
PATTERN = r'^([!#-+\--:<-~]+|"([!#-\[\]-~]|\\["\\])+")$'
# 16 characters of the smallest usual alphabet (hexadecimal) are 64 bits, too many to guess.
_SECRET_LENGTH = 16
_SCOPE_LENGTH = 255
# What a database cannot store, and what looks like a digest of ours.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]|\\Asha256:")


@dataclass(frozen=True, slots=True)
class Key:
    """A key, and the headers that it came in as the client wrote them, if it came in headers."""

    value: str
    headers: tuple[tuple[str, str], ...] = ()
    from_field: bool = False


def _visible(value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise KeyInvalidError(_("An idempotency key is 1 to 255 visible ASCII characters."))
    return value


def parse_header(header: str) -> str:
    """The key in a header's value: bare, or a quoted string of RFC 9651; raises KeyInvalidError."""
    text = header.strip(" \t")
    if quoted := _QUOTED.fullmatch(text):
        return _visible(_ESCAPED.sub(r"\1", quoted[1]))
    if _NOT_IN_BARE.intersection(text):
        raise KeyInvalidError(_("Send one idempotency key: no list, no parameters, no open quote."))
    return _visible(text)


def _from_field(request: HttpRequest, field: str) -> Key | None:
    fields = form_fields(request)
    value = fields.get(field) if hasattr(fields, "get") else None
    return None if value is None else Key(_visible(str(value)), from_field=True)


def _from_headers(request: HttpRequest, names: tuple[str, ...]) -> Key | None:
    sent = sent_headers(request, names)
    keys = {parse_header(line) for name, line in sent}
    if len(keys) > 1:
        raise KeyInvalidError(_("The headers carry different idempotency keys."))
    return Key(keys.pop(), headers=sent) if keys else None


def _sent_key(request: HttpRequest, policy: Policy) -> Key | None:
    if policy.get_key is not None:
        value = policy.get_key(request)
        return None if value is None else Key(_visible(value))
    key = _from_headers(request, policy.headers)
    return _from_field(request, policy.field) if key is None and policy.field else key


def read_key(request: HttpRequest, policy: Policy) -> Key | None:
    """The request's key; None if it has none, or if protection is switched off.

    Raises KeyInvalidError, and KeyMissingError if the policy requires a key.
    """
    if not conf.enabled():
        return None
    key = _sent_key(request, policy)
    if key is None and policy.required:
        raise KeyMissingError
    return key


def _class_of(principal: Any) -> str:
    """What tells kinds of principals apart; two kinds may have the same primary keys."""
    meta = getattr(principal, "_meta", None)
    if meta is not None:
        return str(meta.concrete_model._meta.label)
    # Not type(): a lazy object has the class of what it stands for.
    cls = principal.__class__
    return f"{cls.__module__}.{cls.__qualname__}"


def _of_user(request: HttpRequest) -> str | None:
    user = getattr(request, "user", None)
    scope = _of_principal(user) if getattr(user, "is_authenticated", False) else None
    # Ninja's authentication leaves what it found here, and REST framework's the token.
    return scope or _of_principal(getattr(request, "auth", None))


def _of_principal(principal: Any) -> str | None:
    identity = getattr(principal, "pk", None)
    # Principals without a primary key (made from a token, for example) are all alike.
    if identity is None or identity == "":
        return None
    kind = _class_of(principal)
    # No class name has a colon, so no primary key can spell another kind's scope.
    return (
        f"user:{identity}" if kind == settings.AUTH_USER_MODEL else f"principal:{kind}:{identity}"
    )


def _of_credential(request: HttpRequest) -> str | None:
    sent = sent_headers(request, conf.credential_headers())
    lines = [f"{name}:{value}" for name, value in sent if value.strip()]
    if not lines:
        return None
    return "credential:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _of_anyone(key: str) -> str:
    if len(key) < _SECRET_LENGTH:
        raise KeyInvalidError(
            _("Without a login the idempotency key is a secret: 16 characters or more.")
        )
    return "anonymous"


def scope_of(request: HttpRequest, policy: Policy, key: str) -> str:
    """The caller as 1 to 255 characters; raises KeyInvalidError for a guessable anonymous key."""
    if policy.scope is None:
        return _storable(_of_user(request) or _of_credential(request) or _of_anyone(key))
    scope = cast(object, policy.scope(request))
    # A scope of None would be shared by all callers.
    if not (isinstance(scope, str) and scope):
        raise TypeError(f"scope must return a str that is not empty: {scope!r}")
    return _storable(scope)


def _storable(scope: str) -> str:
    """The scope, or its digest where the column cannot hold it."""
    if len(scope) <= _SCOPE_LENGTH and not _UNSTORABLE.search(scope):
        return scope
    return "sha256:" + hashlib.sha256(scope.encode(errors="surrogatepass")).hexdigest()


def record_id(scope: str, key: str) -> uuid.UUID:
    """The primary key of the record of ``scope`` and ``key``."""
    size = len(scope.encode()).to_bytes(4, "big")
    digest = hashlib.sha256(size + scope.encode() + key.encode()).digest()
    # Version 5 (RFC 9562): MariaDB's native UUID type refuses arbitrary bits.
    return uuid.UUID(bytes=digest[:16], version=5)
