"""The fingerprint: a digest that is equal for equal requests, and for no others.

SHA-256 over a version byte and the length-prefixed method, host, path, sorted query, headers that
carry meaning, media type and body. White space, the order of names in JSON and a form's boundary
do not change it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import BadRequest, DisallowedHost
from django.http import HttpRequest

from ..policy import Policy
from .bodies import CUT, body_parts, is_cut
from .requests import http_request, is_rest_framework, sent_headers

_VERSION = b"\x02"
# Beside the media type they say what a body means (RFC 9110, 8.4 and 14.4; RFC 6266).
_OF_THE_BODY = ("Content-Encoding", "Content-Range", "Content-Disposition")


def digest(parts: Iterable[bytes]) -> bytes:
    """SHA-256 of the parts; their lengths are part of it, so that no two lists of parts collide."""
    pieces = [_VERSION]
    for part in parts:
        pieces += (len(part).to_bytes(8, "big"), part)
    return hashlib.sha256(b"".join(pieces)).digest()


def _host(request: HttpRequest) -> bytes:
    """The authority without the scheme's own port, which means the same (RFC 9110, 4.2.3)."""
    try:
        host = request.get_host()
    except DisallowedHost:
        # A project without CommonMiddleware answers it all the same.
        host = request.META.get("HTTP_HOST", "")
    return re.sub(r":443$" if request.is_secure() else r":80$", "", host.lower()).encode()


def _query(request: HttpRequest) -> bytes:
    query = request.META.get("QUERY_STRING")
    if not query:
        return b"[]"
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    # By name only: the order of one name's values is what they mean.
    return json.dumps(sorted(pairs, key=itemgetter(0))).encode()


def head_of(request: HttpRequest) -> tuple[bytes, ...]:
    """The target of a request: method, path and query."""
    return (request.method or "").encode(), request.path.encode(), _query(request)


def _media_type(request: HttpRequest) -> Iterator[bytes]:
    """The media type and its parameters, but for a form's boundary and the usual charset."""
    yield (request.content_type or "").lower().encode()
    for name, value in sorted((request.content_params or {}).items()):
        is_usual = name == "charset" and value.lower() in ("utf-8", "utf8")
        if name != "boundary" and not is_usual:
            yield f"{name}={value}".encode()


def _headers(request: Any, policy: Policy) -> Iterator[bytes]:
    """The headers that are compared, and the version that REST framework has found in one."""
    for name, value in sent_headers(request, (*_OF_THE_BODY, *policy.fingerprint_headers)):
        yield f"{name.lower()}:{value}".encode(errors="surrogateescape")
    version = getattr(request, "version", None) if is_rest_framework(request) else None
    if version is not None:
        yield f"version:{version}".encode()


def fingerprint_of(request: HttpRequest, policy: Policy) -> bytes:
    """What is asked, as 32 bytes.

    Raises whatever parsing an unparsable form raises (a 400 in Django, 400 or 415 in REST
    framework), BadRequest for a body shorter than announced, and ImproperlyConfigured for one that
    a middleware has read as a stream.
    """
    fingerprint = _fingerprint_of(request, policy)
    if is_cut(http_request(request)):
        raise BadRequest(CUT)
    return fingerprint


def _fingerprint_of(request: HttpRequest, policy: Policy) -> bytes:
    if policy.fingerprint is not None:
        return digest((b"custom", policy.fingerprint(request)))
    plain = http_request(request)
    leave_out = frozenset(("csrfmiddlewaretoken", policy.field or "csrfmiddlewaretoken"))
    return digest(
        (
            *head_of(plain),
            _host(plain) if policy.fingerprint_host else b"",
            digest(_headers(request, policy)),
            digest(_media_type(plain)),
            *body_parts(request, leave_out),
        )
    )
