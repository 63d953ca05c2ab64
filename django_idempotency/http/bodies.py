"""The body of a request as the fingerprint compares it, whole and unread for the view.

JSON is compared by its meaning, a form by its fields and files, everything else by its bytes. A
body is compared as it arrives, and its Content-Length is not believed.
"""

import hashlib
import json
import tempfile
import weakref
from collections.abc import Iterator
from io import BytesIO
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import BadRequest, ImproperlyConfigured
from django.http import HttpRequest
from django.http.request import RawPostDataException

from .requests import form_fields, http_request, is_rest_framework

#: What is wrong with a body of which only a part arrived.
CUT = "The body is shorter than its Content-Length."
_CHUNK_BYTES = 64 * 1024
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class _NotCanonicalError(ValueError):
    """Parsers disagree on what the JSON text means, so its raw bytes are compared."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise _NotCanonicalError
    return unique


def _refuse(constant: str) -> None:
    raise _NotCanonicalError(constant)


def _as_written(number: str) -> str:
    # As floats, 9007199254740993.0 would equal 9007199254740992.0, and 1e400 be Infinity.
    return f"\0number:{number}"


def _integer(number: str) -> int | str:
    return int(number) if number != "-0" else _as_written(number)


# json.loads and json.dumps would make theirs anew for each body.
_decoder = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_constant=_refuse,
    parse_float=_as_written,
    parse_int=cast(Any, _integer),
)
_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def canonical_json(body: bytes) -> bytes | None:
    """The same JSON with sorted names and no white space; None where it is ambiguous.

    That is: duplicate names, NaN and Infinity, text that is no JSON or has the character NUL, and
    nesting deeper than the parser goes.
    """
    try:
        text = body.decode(json.detect_encoding(body), "surrogatepass")
        # In a text without NUL, no string looks like one of our numbers.
        if "u0000" in text:
            return None
        return _encoder.encode(_decoder.decode(text)).encode()
    except (ValueError, RecursionError):
        return None


def _announced(request: HttpRequest) -> int | None:
    """The Content-Length; None where the request has none, so its body ends with the stream."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isdigit() else None


def _is_streamed(request: HttpRequest) -> bool:
    """Whether the body must not be read into memory: it is large, or its size is unknown."""
    if request._read_started or hasattr(request, "_body"):  # type: ignore[attr-defined]
        return False
    limit = cast(int | None, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    length = _announced(request)
    return length is None or (limit is not None and length > limit)


def _spooled(request: Any) -> tuple[bytes, int]:
    """The digest and the size of a body that is read as a stream, and can then be read again.

    Raises BadRequest for a body shorter than announced.
    """
    sha, size = hashlib.sha256(), 0
    spool = tempfile.SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115
    # Django closes the files of a request, and not this one.
    weakref.finalize(request, spool.close)
    source = _source(request)
    while chunk := source.read(_CHUNK_BYTES):
        size += len(chunk)
        sha.update(chunk)
        spool.write(chunk)
    if size < (_announced(request) or 0):
        raise BadRequest(CUT)
    spool.seek(0)
    if source is request:
        request._stream, request._read_started = spool, False
    else:
        request.META["wsgi.input"] = spool
    return sha.digest(), size


def _source(request: Any) -> Any:
    """Where the view finds the body: on the request or, for a server's chunks, beside it.

    Django reads no body without a Content-Length under WSGI; a view may read the server's stream.
    """
    is_beside = _announced(request) is None and request.META.get("wsgi.input_terminated")
    return request.META["wsgi.input"] if is_beside else request


def is_json(request: HttpRequest) -> bool:
    """Whether the request says that its body is JSON."""
    content_type = request.content_type or ""
    return content_type == "application/json" or content_type.endswith("+json")


def _raw_parts(request: HttpRequest) -> Iterator[bytes]:
    if _is_streamed(request):
        sha, size = _spooled(request)
        if not is_json(request) or size > (settings.DATA_UPLOAD_MAX_MEMORY_SIZE or size):
            yield from (b"raw", sha)
            return
    body = _body(request)
    canonical = canonical_json(body) if is_json(request) else None
    if canonical is None:
        yield from (b"raw", hashlib.sha256(body).digest())
    else:
        yield from (b"json", canonical)


def _body(request: HttpRequest) -> bytes:
    try:
        return request.body
    except RawPostDataException as error:
        raise ImproperlyConfigured(
            "The body was read as a stream before @idempotent could compare it: by a middleware,"
            " or by a decorator above it. Let it read request.body, or put it below."
        ) from error


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
    """Whether the body was read as a stream, and only what a parser made of it is left."""
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
    # Without a Content-Length no parser of Django's finds a file.
    is_parsed = plain.content_type == _URLENCODED or (
        plain.content_type == _MULTIPART and _announced(plain) is not None
    )
    # Plain Django parses forms for POST only.
    return is_parsed and (is_rest_framework(request) or plain.method == "POST")


def body_parts(request: Any, leave_out: frozenset[str]) -> Iterator[bytes]:
    """The body in pieces that are equal for equal bodies, without the form fields ``leave_out``."""
    plain = http_request(request)
    rest_framework = is_rest_framework(request)
    if is_form(request):
        if _is_consumed(plain) and not (rest_framework or hasattr(plain, "_post")):
            # Django would find no field in the form, and all such forms would be equal.
            _body(plain)
        yield from _form_parts(request, leave_out)
        return
    if rest_framework and _is_consumed(plain):
        yield b"data"
        yield json.dumps(request.data, sort_keys=True, default=str).encode()
        return
    yield from _raw_parts(plain)
    if rest_framework:
        parse(request)


def is_cut(request: Any) -> bool:
    """Whether the connection broke before the whole body was here.

    Neither servers nor Django complain, and the half would bind the key.
    """
    announced = _announced(request)
    if announced is None or "HTTP_CONTENT_ENCODING" in request.META:
        return False
    stream = getattr(request, "_stream", None)
    if hasattr(request, "_body"):
        # A middleware may have unpacked the body: what came is still in the stream.
        sent = stream.getbuffer().nbytes if isinstance(stream, BytesIO) and not stream.closed else 0
        return max(len(request._body), sent) < announced
    # Django's LimitedStream, where a parser read it.
    came = getattr(stream, "_pos", None)
    return request._read_started and came is not None and came < announced
