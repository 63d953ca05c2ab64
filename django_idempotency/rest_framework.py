"""What a project with Django REST framework needs: the mixin for its views, and a handler."""

from typing import Any

from django.http import HttpResponseBase
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.views import exception_handler

from .http.problems import IdempotencyAPIException, answer, problem_details
from .http.requests import http_request
from .views import IdempotencyMixin

__all__ = ["IdempotencyMixin", "problem_details_handler"]


def problem_details_handler(
    exception: Exception, context: dict[str, Any]
) -> HttpResponseBase | None:
    """A refusal is ``application/problem+json``; all else is what REST framework's handler returns.

    For ``REST_FRAMEWORK["EXCEPTION_HANDLER"]``. The members are the same as in plain Django. The
    browsable API shows them inside its page, and a view that renders HTML answers with the template
    ``django_idempotency/error.html``.
    """
    response = exception_handler(exception, context)
    if response is None or not isinstance(exception, IdempotencyAPIException):
        return response
    request = context["request"]
    renderer = getattr(request, "accepted_renderer", None)
    if isinstance(renderer, BrowsableAPIRenderer):
        response.data = problem_details(exception.error)
        return response
    # Not REST framework's Response: its renderer would put its own media type on it.
    is_page = getattr(renderer, "media_type", None) == "text/html"
    return answer(http_request(request), exception.error, is_page=is_page)
