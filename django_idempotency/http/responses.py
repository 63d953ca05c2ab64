"""A view's response: what it decides, what is stored of it, and the replay made from that.

:func:`verdict` decides about the transaction and the key, :func:`stored` takes the lasting parts,
:func:`replay` makes the same reply again.
"""

from dataclasses import replace
from enum import Enum, auto
from itertools import chain

from django.http import FileResponse, HttpResponse
from django.http.response import HttpResponseBase

from ..codecs import configured, decode, encode
from ..exceptions import StreamingResponseError
from ..policy import Policy
from ..storage.values import StoredResponse

#: Statuses after which the client may correct the request or try again later.
NO_OUTCOME = frozenset(
    (
        *(400, 401, 403, 405, 406, 408, 409, 412, 413, 415),
        *(421, 422, 423, 424, 425, 426, 428, 429, 431, 451),
    )
)

REPLAYED_HEADER = "Idempotent-Replayed"
BODY_HEADER = "Idempotent-Body"

# Cookies belong to the first caller's session, the rest to one connection or one moment (RFC 9110,
# 7.6.1).
_NEVER_STORED = frozenset(
    (
        *("set-cookie", "date", "connection", "keep-alive", "proxy-authenticate"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
_OF_THE_BODY = frozenset(
    ("content-type", "content-length", "content-encoding", "content-disposition", "etag")
)


class Verdict(Enum):
    """What a response means for the view's writes and for the key."""

    #: Commit both.
    KEEP = auto()
    #: Commit the writes, free the key.
    RELEASE = auto()
    #: Roll the writes back, free the key.
    ROLL_BACK = auto()


def verdict(response: HttpResponseBase, wish: Verdict | None, policy: Policy) -> Verdict:
    """The verdict on a response; ``wish`` is the verdict that the view asked for, if any."""
    # REST framework marks responses that its handler made from an exception.
    if getattr(response, "exception", False) or wish is Verdict.ROLL_BACK:
        return Verdict.ROLL_BACK
    if wish is Verdict.KEEP:
        return Verdict.KEEP
    if response.status_code >= 500:
        return Verdict.ROLL_BACK
    if wish is Verdict.RELEASE:
        return Verdict.RELEASE
    is_outcome = response.status_code not in NO_OUTCOME
    kept = policy.keep_response(response) if policy.keep_response else is_outcome
    return Verdict.KEEP if kept else Verdict.RELEASE


def refuse_streams(response: HttpResponseBase) -> None:
    """Raise StreamingResponseError for a body that can be sent only once."""
    if response.streaming and not isinstance(response, FileResponse):
        raise StreamingResponseError(
            f"{type(response).__name__} cannot be repeated, so a covered view must not return it."
        )


def _file_body(response: FileResponse, limit: int) -> bytes | None:
    read, size = [], 0
    pieces = iter(response)
    for piece in pieces:
        read.append(piece)
        size += len(piece)
        if size > limit:
            response.streaming_content = chain(read, pieces)
            return None
    body = b"".join(read)
    response.streaming_content = [body]
    return body


def _body(response: HttpResponseBase, limit: int) -> bytes | None:
    if isinstance(response, FileResponse):
        return _file_body(response, limit)
    content: bytes = response.content  # type: ignore[attr-defined]
    return content if len(content) <= limit else None


def stored(
    response: HttpResponseBase, limit: int, *, language: str | None = None
) -> StoredResponse:
    """The parts of a rendered response to store; a body of more than ``limit`` bytes is left out.

    ``language`` is the language of its texts, in case the response has no Content-Language.
    """
    headers = [
        (name, value) for name, value in response.items() if name.lower() not in _NEVER_STORED
    ]
    if language is not None and not response.has_header("Content-Language"):
        headers.append(("Content-Language", language))
    return StoredResponse(response.status_code, headers, _body(response, limit))


def redacted(saved: StoredResponse, policy: Policy) -> StoredResponse:
    """What the project's ``redact`` allows to store of a response; its exceptions pass through."""
    if policy.redact is None:
        return saved
    kept = policy.redact(saved)
    if not isinstance(kept, StoredResponse):
        raise TypeError(f"redact must return a StoredResponse, not {type(kept).__name__}")
    if kept.body == saved.body:
        return kept
    # A replay of other bytes has another length (RFC 9110, 8.6).
    headers = [(name, value) for name, value in kept.headers if name.lower() != "content-length"]
    return replace(kept, headers=headers)


def replay(saved: StoredResponse) -> HttpResponse:
    """The same status, bytes and headers, marked as a replay."""
    response = HttpResponse(saved.body or b"", status=saved.status)
    del response["Content-Type"]
    for name, value in saved.headers:
        if saved.body is not None or name.lower() not in _OF_THE_BODY:
            response[name] = value
    response[REPLAYED_HEADER] = "true"
    if saved.body is None:
        response[BODY_HEADER] = "omitted"
    return response


def encoded(stored: StoredResponse) -> StoredResponse:
    """The same response with its body encoded for the database."""
    if stored.body is None or not configured():
        return stored
    body, names = encode(stored.body)
    return replace(stored, body=body, codec=names)


def decoded(stored: StoredResponse) -> StoredResponse:
    """The same response with its body decoded; raises UndecodableError."""
    if stored.body is None or not stored.codec:
        return stored
    return replace(stored, body=decode(stored.body, stored.codec), codec="")
