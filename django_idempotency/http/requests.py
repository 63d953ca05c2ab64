"""The request as Django made it, whichever request object a view was handed."""

from typing import Any

from django.http import HttpRequest

#: The form field that carries the key, where nobody names another.
KEY_FIELD = "idempotency_key"


def http_request(request: Any) -> HttpRequest:
    """Django's own request: REST framework's Request is a wrapper around it."""
    wrapped: HttpRequest = getattr(request, "_request", request)
    return wrapped


def is_rest_framework(request: Any) -> bool:
    """Whether REST framework made this request object for one of its views."""
    return hasattr(request, "parser_context")


def form_fields(request: Any) -> Any:
    """The parsed fields of a form: a QueryDict (in REST framework with the files among them).

    A parser of the project's own may make anything else of the body.
    """
    return request.data if is_rest_framework(request) else request.POST
