"""The fingerprint: a digest that is equal for equal requests, and for no others.

SHA-256 over a version byte and the length-prefixed method, path, sorted query and body. White
space, the order of names in JSON and a form's boundary do not change it.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, cast
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import HttpRequest

from ..policy import Policy
from .requests import form_fields, http_request, is_rest_framework

_CUT = "The body is shorter than its Content-Length."
_VERSION = b"\x01"
_CHUNK_BYTES = 64 * 1024
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")


class _NotCanonicalError(ValueError):
    """Parsers disagree on what the JSON text means, so its raw bytes are compared."""


def digest(parts: Iterable[bytes]) -> bytes:
    """SHA-256 of the parts; their lengths are part of it, so that no two lists of parts collide."""
    pieces = [_VERSION]
    for part in parts:
        pieces += (len(part).to_bytes(8, "big"), part)
    return hashlib.sha256(b"".join(pieces)).digest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise _NotCanonicalError
    return unique


def _refuse(constant: str) -> None:
    raise _NotCanonicalError(constant)


def _as_written(number: str) -> str:
    # As floats, 9007199254740993.0 would equal 9007199254740992.0, and 1e400 would be Infinity.
    return f"\0number:{number}"


# Made once: json.loads and json.dumps would make new ones for each body.
_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse, parse_float=_as_written
)
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def canonical_json(body: bytes) -> bytes | None:
    """The same JSON with sorted names and no white space; None if it has no canonical form.

    That is the case for duplicate names, NaN and Infinity, text that is not JSON or contains the
    mark of our numbers, and nesting deeper than the parser allows.
    """
    if b"u0000" in body:
        return None
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        return _encoder.encode(_decoder.decode(text)).encode()
    except (ValueError, RecursionError):
        return None


def _spooled_digest(request: Any) -> bytes:
    """The digest of a body that is too large for memory; the view can still read the body."""
    sha = hashlib.sha256()
    spool = tempfile.SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115
    while chunk := request.read(_CHUNK_BYTES):
        sha.update(chunk)
        spool.write(chunk)
    if _is_cut(request):
        raise BadRequest(_CUT)
    spool.seek(0)
    request._stream = spool
    request._read_started = False
    return sha.digest()


def _is_large(request: HttpRequest) -> bool:
    limit = cast(int | None, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    length = request.META.get("CONTENT_LENGTH") or "0"
    return limit is not None and length.isdigit() and int(length) > limit


def is_json(request: HttpRequest) -> bool:
    """Whether the request says that its body is JSON."""
    content_type = request.content_type or ""
    return content_type == "application/json" or content_type.endswith("+json")


def _raw_parts(request: HttpRequest) -> Iterator[bytes]:
    if _is_large(request) and not request._read_started:  # type: ignore[attr-defined]
        yield b"large"
        yield _spooled_digest(request)
    elif is_json(request) and (canonical := canonical_json(request.body)) is not None:
        yield b"json"
        yield canonical
    else:
        yield b"raw"
        yield request.body


def _file_digest(file: Any) -> bytes:
    sha = hashlib.sha256()
    for chunk in file.chunks():
        sha.update(chunk)
    file.seek(0)
    return sha.digest()


def _form_parts(request: Any, leave_out: frozenset[str]) -> Iterator[bytes]:
    yield b"form"
    fields = form_fields(request)
    if not hasattr(fields, "getlist"):
        yield json.dumps(fields, sort_keys=True, default=str).encode()
        return
    for name in sorted(set(fields) - leave_out):
        texts = [value for value in fields.getlist(name) if isinstance(value, str)]
        yield json.dumps([name, texts]).encode()
    for name in sorted(request.FILES):
        for file in request.FILES.getlist(name):
            yield json.dumps([name, file.name, file.content_type]).encode()
            yield _file_digest(file)


def _is_consumed(request: Any) -> bool:
    """Whether the body was read as a stream, so that only the parsed data is left."""
    return request._read_started and not hasattr(request, "_body")


def parse(request: Any) -> None:
    """Let REST framework's parsers refuse a body (400, 415) before anything is claimed."""
    try:
        request.data  # noqa: B018
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.") from error


def is_form(request: Any) -> bool:
    """Whether the body is a form that the request's framework parses."""
    plain = http_request(request)
    # Plain Django parses forms for POST only.
    return plain.content_type in _FORMS and (is_rest_framework(request) or plain.method == "POST")


def _body_parts(request: Any, leave_out: frozenset[str]) -> Iterator[bytes]:
    plain = http_request(request)
    rest_framework = is_rest_framework(request)
    if is_form(request):
        yield from _form_parts(request, leave_out)
    elif rest_framework and _is_consumed(plain):
        yield b"data"
        yield json.dumps(request.data, sort_keys=True, default=str).encode()
    else:
        yield from _raw_parts(plain)
        if rest_framework:
            parse(request)


def _is_cut(request: Any) -> bool:
    """Whether the connection broke before the whole body had arrived.

    Neither servers nor Django report that, and the key would belong to half a body.
    """
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if not announced.isdigit():
        return False
    if hasattr(request, "_body"):
        return len(request._body) < int(announced)
    # A parser has read the stream, which is Django's LimitedStream.
    received = getattr(getattr(request, "_stream", None), "_pos", None)
    return request._read_started and received is not None and received < int(announced)


def _query(request: HttpRequest) -> bytes:
    query = request.META.get("QUERY_STRING")
    if not query:
        return b"[]"
    pairs = parse_qsl(query, keep_blank_values=True)
    # Sorted by name only, because the order of a name's values carries meaning.
    return json.dumps(sorted(pairs, key=itemgetter(0))).encode()


def head_of(request: HttpRequest) -> tuple[bytes, ...]:
    """The parts of a request without its body: method, path and query."""
    return (request.method or "").encode(), request.path.encode(), _query(request)


def fingerprint_of(request: HttpRequest, policy: Policy) -> bytes:
    """The fingerprint of a request, 32 bytes.

    Raises what parsing an invalid form raises (it becomes a 400 in Django, 400 or 415 in REST
    framework), and BadRequest for a body shorter than its Content-Length.
    """
    if policy.fingerprint is not None:
        made = digest((b"custom", policy.fingerprint(request)))
    else:
        leave_out = frozenset(("csrfmiddlewaretoken", policy.field or "csrfmiddlewaretoken"))
        made = digest((*head_of(request), *_body_parts(request, leave_out)))
    if _is_cut(http_request(request)):
        raise BadRequest(_CUT)
    return made
