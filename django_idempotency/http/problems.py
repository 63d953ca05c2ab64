"""How a refusal reaches the client: problem details, a page for people, or the project's own way.

Plain Django answers here; REST framework's views raise, so that the project's exception handler
has the last word.
"""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import TemplateDoesNotExist, loader
from django.utils.cache import patch_vary_headers

from .. import conf
from ..exceptions import IdempotencyError

try:
    from rest_framework.exceptions import APIException
except ImportError:  # an extra
    APIException = Exception  # type: ignore[assignment,misc]

#: The media type of RFC 9457.
PROBLEM_TYPE = "application/problem+json"
_PAGE = "django_idempotency/error.html"


class IdempotencyAPIException(APIException):
    """An IdempotencyError on its way through REST framework's exception handler.

    ``status_code``, ``detail.code`` and ``wait`` (seconds, for Retry-After) are the error's own,
    and ``error`` is the error, whose ``title`` and ``remedy`` a handler may want.
    """

    def __init__(self, error: IdempotencyError) -> None:
        super().__init__(error.detail, error.code)
        self.error = error
        self.status_code = error.status
        if error.retry_after is not None:
            self.wait = error.retry_after


def _prefers_page(request: HttpRequest) -> bool:
    return (
        request.get_preferred_type([PROBLEM_TYPE, "application/json", "text/html"]) == "text/html"
    )


def problem_details(error: IdempotencyError) -> dict[str, Any]:
    """The members of RFC 9457, with the extensions ``code`` and ``remedy``."""
    base = conf.problem_type_base()
    return {
        "type": base + error.code if base else "about:blank",
        "title": str(error.title),
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "remedy": str(error.remedy),
    }


def _page(request: HttpRequest, problem: dict[str, Any]) -> HttpResponse | None:
    """The refusal for a person; None where the project has no templates."""
    try:
        template = loader.get_template(_PAGE)
    except TemplateDoesNotExist:
        return None
    return HttpResponse(template.render({"problem": problem}, request), status=problem["status"])


def answer(request: HttpRequest, error: IdempotencyError, *, is_page: bool) -> HttpResponse:
    """The refusal as a page or as problem details, in the language that is active now."""
    problem = problem_details(error)
    response = _page(request, problem) if is_page else None
    if response is None:
        response = JsonResponse(problem, status=error.status, content_type=PROBLEM_TYPE)
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    return response


def problem_response(
    request: HttpRequest, error: IdempotencyError, *, is_form: bool
) -> HttpResponse:
    """The refusal as RFC 9457 problem details, or as a page where a person is looking."""
    response = answer(request, error, is_page=is_form or _prefers_page(request))
    patch_vary_headers(response, ["Accept"])
    return response
