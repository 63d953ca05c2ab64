"""The status pages of accepted operations as Django's class-based views."""

import uuid
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path
from django.views.generic import View

from ..exceptions import IdempotencyError
from ..http.problems import problem_response
from ..models import IdempotencyRecord
from ..policy import resolve
from .state import described, found, response_of


class OwnOperation:
    """Finds an operation for the caller that began it; other callers get 404.

    ``scope`` and ``using`` must be those of the view that accepted the operation, if it sets them:
    ``OperationView.as_view(scope=tenant_of)``.
    """

    scope: Callable[[HttpRequest], str] | None = None
    using: str | None = None

    def own(self, request: HttpRequest, record_id: uuid.UUID) -> tuple[str, IdempotencyRecord]:
        """The alias and the caller's own record; raises Http404 for any other record."""
        # Read from the instance: a function on the class would become a bound method.
        scope = vars(self).get("scope")
        return found(request, record_id, resolve({"scope": scope} if scope else {}), self.using)


class ShowsState(OwnOperation):
    """``GET`` returns the state of an operation, its steps, and the address of its response."""

    def get(self, request: HttpRequest, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        return described(*self.own(request, record_id))


class ShowsResponse(OwnOperation):
    """``GET`` returns the response of an operation, byte for byte; 404 until there is one."""

    def get(self, request: HttpRequest, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        try:
            return response_of(*self.own(request, record_id))
        except IdempotencyError as error:
            return self.refused(request, error)

    def refused(self, request: HttpRequest, error: IdempotencyError) -> HttpResponseBase:
        return problem_response(request, error, is_form=False)


def pages(state: type[View], response: type[View]) -> list[URLPattern]:
    """The URLs of the two views, under the names that are reversed for replies."""
    operation = "operations/<uuid:record_id>/"
    return [
        path(operation, state.as_view(), name="operation"),
        path(f"{operation}response/", response.as_view(), name="operation-response"),
    ]


class OperationView(ShowsState, View):
    """The state of an operation."""


class OperationResponseView(ShowsResponse, View):
    """The response of an operation."""
