"""The request as Django made it, whichever request object a view was handed."""

import functools
import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest
from django.http.request import HttpHeaders

from ..policy import Options, Policy

#: The form field that carries the key, unless the view names another.
KEY_FIELD = "idempotency_key"
_STATE = "_idempotency"
# Asked for the same few names by each request.
_to_wsgi_name = functools.cache(HttpHeaders.to_wsgi_name)


@dataclass(frozen=True, slots=True)
class OuterDoor:
    """A door around the callback of a view class, which this request has come through.

    ``apart`` are the aliases that the project keeps out of ATOMIC_REQUESTS there.
    """

    cls: type[Any]
    options: Options
    apart: Collection[str]


@dataclass(slots=True)
class RequestState:
    """What the package knows of one request, and keeps on Django's request object."""

    outer_doors: list[OuterDoor] = field(default_factory=list)
    #: The view instance whose handler is covered already.
    entered: object = None
    #: The policy under which the request is covered, and the view whose door it came through last.
    policy: Policy | None = None
    view: object = None
    #: The views that its keys stand for, by the ids of their records.
    views: dict[uuid.UUID, object] = field(default_factory=dict)
    #: The operation of Ninja's that has let the request pass its own checks.
    checked: object = None
    #: What a completer goes on with (``durable.envelopes.Resumption``); None for a client.
    resumption: object = None


def state_of(request: Any) -> RequestState:
    """The state of this request, which is made when it is first asked for."""
    attributes = vars(http_request(request))
    if _STATE not in attributes:
        attributes[_STATE] = RequestState()
    state: RequestState = attributes[_STATE]
    return state


def http_request(request: Any) -> HttpRequest:
    """Django's own request: REST framework's Request is a wrapper around it."""
    wrapped: HttpRequest = request._request if is_rest_framework(request) else request
    return wrapped


def is_rest_framework(request: Any) -> bool:
    """Whether REST framework made this request object for one of its views."""
    return hasattr(request, "parser_context")


def sent_headers(request: Any, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Those of the headers that the request has, with their values."""
    meta = http_request(request).META
    return tuple((name, meta[at]) for name in names if (at := _to_wsgi_name(name)) in meta)


def form_fields(request: Any) -> Any:
    """The parsed fields of a form: a QueryDict (in REST framework with the files among them).

    A parser of the project's own may make anything else of the body.
    """
    return request.data if is_rest_framework(request) else request.POST
