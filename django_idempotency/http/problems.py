"""How a refusal reaches the client: as problem details, as a page, or in the project's own format.

Plain Django's views answer with what is made here. REST framework's views raise an exception, so
that the project's exception handler decides.
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

    ``status_code``, ``detail.code`` and ``wait`` (seconds, for Retry-After) are the error's.
    ``error`` is the error itself, for handlers that want its ``title`` and ``remedy``.
    """

    def __init__(self, error: IdempotencyError) -> None:
        super().__init__(error.detail, error.code)
        self.error = error
        self.status_code = error.status
        if error.retry_after is not None:
            self.wait = error.retry_after


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
    """The refusal as a page; None if the project cannot load the package's templates."""
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
    """The refusal as a page for a form or a browser, or as RFC 9457 problem details."""
    preferred = request.get_preferred_type([PROBLEM_TYPE, "application/json", "text/html"])
    response = answer(request, error, is_page=is_form or preferred == "text/html")
    patch_vary_headers(response, ["Accept"])
    return response
