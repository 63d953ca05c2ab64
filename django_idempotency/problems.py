"""How a refusal reaches the client: problem details, a page for people, or the project's own way.

Plain Django answers here; REST framework's views raise, so that the project's exception handler
has the last word.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render

from . import conf
from .exceptions import IdempotencyError

try:
    from rest_framework.exceptions import APIException
except ImportError:  # an extra
    APIException = Exception  # type: ignore[assignment,misc]

_JSON = "application/problem+json"


class IdempotencyAPIException(APIException):
    """An IdempotencyError on its way through REST framework's exception handler.

    ``status_code``, ``detail.code`` and ``wait`` (seconds, for Retry-After) are the error's own,
    and ``error`` is the error.
    """

    def __init__(self, error: IdempotencyError) -> None:
        super().__init__(str(error.detail), error.code)
        self.error = error
        self.status_code = error.status
        if error.retry_after is not None:
            self.wait = error.retry_after


def _prefers_page(request: HttpRequest) -> bool:
    return request.get_preferred_type([_JSON, "application/json", "text/html"]) == "text/html"


def _details(error: IdempotencyError) -> dict[str, Any]:
    base = conf.problem_type_base()
    return {
        "type": base + error.code if base else "about:blank",
        "title": str(error.title),
        "status": error.status,
        "detail": str(error.detail),
        "code": error.code,
    }


def problem_response(
    request: HttpRequest, error: IdempotencyError, *, is_form: bool
) -> HttpResponse:
    """The refusal as RFC 9457 problem details, or as a page where a person is looking."""
    details = _details(error)
    if is_form or _prefers_page(request):
        template = "django_idempotency/error.html"
        response = render(request, template, {"problem": details}, status=error.status)
    else:
        response = JsonResponse(details, status=error.status, content_type=_JSON)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response
