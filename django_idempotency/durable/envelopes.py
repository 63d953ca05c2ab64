"""The stored request of an unfinished operation: what is stored, and how it is made again.

Storing is opt-in. An envelope holds no credentials and goes through the body codecs; the request
made from it is an ordinary one for the project's own middleware and view.
"""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest
from django.http.request import HttpHeaders, RawPostDataException

from .. import conf
from ..codecs import decode, encode
from ..exceptions import IdempotencyError
from ..http.requests import http_request, state_of
from ..models import IdempotencyEnvelope, UtcNow
from ..policy import Policy
from ..storage.values import Intent

logger = logging.getLogger("django_idempotency")

# Where the mark of the user lies among the stored variables.
_USER_MARK = "django_idempotency.user"

# The variables that every server passes on, and those that say how to read and write content.
_KEPT = (
    *("REQUEST_METHOD", "QUERY_STRING", "CONTENT_TYPE"),
    *("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "REMOTE_ADDR"),
    *("HTTP_HOST", "HTTP_ACCEPT", "HTTP_ACCEPT_LANGUAGE", "HTTP_CONTENT_ENCODING"),
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request without its credentials: WSGI's variables, the body, and who its user was.

    ``user_id`` is the user's primary key, and ``user_mark`` what tells the user from a later one
    with the same key.
    """

    environ: Mapping[str, str]
    body: bytes
    user_id: str
    user_mark: str = ""


@dataclass(slots=True)
class Resumption:
    """Marks a request that was made from an envelope, and collects how that went.

    ``token``: the owner token of the claim it got. ``refusal``: why it got none.
    """

    intent: Intent
    token: UUID | None = None
    refusal: IdempotencyError | None = None


def _environ(request: HttpRequest) -> dict[str, str]:
    kept = (*_KEPT, *map(HttpHeaders.to_wsgi_name, conf.request_headers()))
    if settings.SECURE_PROXY_SSL_HEADER:
        kept = (*kept, settings.SECURE_PROXY_SSL_HEADER[0])
    if settings.USE_X_FORWARDED_HOST:
        kept = (*kept, "HTTP_X_FORWARDED_HOST")
    if settings.USE_X_FORWARDED_PORT:
        kept = (*kept, "HTTP_X_FORWARDED_PORT")
    environ = {name: str(request.META[name]) for name in kept if name in request.META}
    return environ | {
        "wsgi.url_scheme": "https" if request.is_secure() else "http",
        "SCRIPT_NAME": _latin(request.path.removesuffix(request.path_info)),
        "PATH_INFO": _latin(request.path_info),
        **_language(request),
    }


def _latin(path: str) -> str:
    """The path as WSGI spells it (PEP 3333); ASGI spells it otherwise."""
    return path.encode().decode("latin-1")


def _language(request: HttpRequest) -> dict[str, str]:
    """The language that LocaleMiddleware chose, perhaps by a cookie that is not stored."""
    language = getattr(request, "LANGUAGE_CODE", None)
    return {"HTTP_ACCEPT_LANGUAGE": language} if language else {}


def _user_id(request: HttpRequest) -> str | None:
    """The user's primary key; "" without a login, None if the user cannot be logged in again."""
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return ""
    meta = getattr(user, "_meta", None)
    is_ours = meta is not None and meta.concrete_model._meta.label == settings.AUTH_USER_MODEL
    return str(user.pk) if is_ours and user.pk is not None else None


def mark_of_user(user: Any) -> str:
    """A digest of what a user keeps; a deleted user's primary key may be given to another one."""
    joined = getattr(user, "date_joined", None)
    kept = str(joined.timestamp()) if joined else user.get_username()
    return hashlib.sha256(kept.encode()).hexdigest()


def _body(request: HttpRequest) -> bytes | None:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > conf.max_request_bytes():
        return None
    try:
        body = request.body
    except (RawPostDataException, RequestDataTooBig):
        # A parser has read it from the stream.
        return None
    return body if len(body) <= conf.max_request_bytes() else None


def envelope_of(request: HttpRequest) -> Envelope | None:
    """The envelope of a request, whose body it reads; None if that cannot be made again from it."""
    plain = http_request(request)
    user_id, body = _user_id(request), _body(plain)
    if user_id is None or body is None:
        logger.warning(
            "%s %s cannot be stored for the completer: only its client can finish it",
            plain.method,
            plain.path,
        )
        return None
    return Envelope(_environ(plain), body, user_id, mark_of_user(request.user) if user_id else "")


def store_envelope(using: str, intent: Intent, policy: Policy, envelope: Envelope) -> None:
    """The envelope is stored, unless one was before; it is due for a completer after the lease."""
    head = json.dumps({**envelope.environ, _USER_MARK: envelope.user_mark}).encode()
    request, codec = encode(head + b"\n" + envelope.body)
    # A request that was only accepted has no owner whose lease must end first.
    is_due = policy.respond == "accepted"
    row = IdempotencyEnvelope(
        record_id=intent.id,
        user_id=envelope.user_id,
        request=request,
        codec=codec,
        tries=0,
        error="",
        created_at=UtcNow(),
        due_at=UtcNow() if is_due else UtcNow() + policy.lease,
    )
    IdempotencyEnvelope.objects.using(using).bulk_create([row], ignore_conflicts=True)


def is_given_up(using: str, record_id: UUID) -> bool:
    """Whether completers have given up a stored request."""
    return IdempotencyEnvelope.objects.using(using).filter(pk=record_id, due_at=None).exists()


def opened(row: IdempotencyEnvelope) -> Envelope:
    """The envelope as it was stored; raises UndecodableError."""
    head, _, body = decode(bytes(row.request), row.codec).partition(b"\n")
    environ = json.loads(head)
    return Envelope(environ, body, row.user_id, environ.pop(_USER_MARK, ""))


def request_of(envelope: Envelope, resumption: Resumption, user: Any) -> WSGIRequest:
    """The request made again, with its user logged in."""
    environ: dict[str, Any] = {
        **envelope.environ,
        "CONTENT_LENGTH": str(len(envelope.body)),
        "wsgi.input": io.BytesIO(envelope.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    request = WSGIRequest(environ)
    # Read now, as for the first request: parsing a form consumes the stream.
    request.body  # noqa: B018
    state_of(request).resumption = resumption
    vars(request)["_dont_enforce_csrf_checks"] = True
    if user is not None:
        _log_in(request, user)
    return request


def _log_in(request: WSGIRequest, user: Any) -> None:
    """Django and REST framework find this user cached, and need no session or credentials."""

    async def auser() -> Any:
        return user

    vars(request).update({"user": user, "auser": auser})
    vars(request).update({"_cached_user": user, "_acached_user": user, "_force_auth_user": user})


def resumption_of(request: HttpRequest) -> Resumption | None:
    """The Resumption of a completer's request; None for a client's own request."""
    resumption = state_of(request).resumption
    return resumption if isinstance(resumption, Resumption) else None
