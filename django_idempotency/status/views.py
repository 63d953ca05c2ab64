"""The pages of accepted operations for plain Django: their state and their response."""

import uuid
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.views.generic import View

from ..exceptions import IdempotencyError
from ..http.problems import problem_response
from ..models import IdempotencyRecord
from ..policy import resolve
from .state import described, found, response_of


class OwnOperation:
    """Finds an operation for whoever began it; everybody else gets a 404.

    ``scope`` and ``using`` are the options of the view that accepted it, where it has some of its
    own: ``OperationView.as_view(scope=tenant_of)``.
    """

    scope: Callable[[HttpRequest], str] | None = None
    using: str | None = None

    def own(self, request: HttpRequest, record_id: uuid.UUID) -> tuple[str, IdempotencyRecord]:
        """The caller's own record and its database; raises Http404."""
        # As the class's attribute it would be a method.
        scope = vars(self).get("scope")
        return found(request, record_id, resolve({"scope": scope} if scope else {}), self.using)


class OperationView(OwnOperation, View):
    """``GET``: how far an operation came, its steps, and where its response is."""

    def get(self, request: HttpRequest, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        """Tell it as JSON."""
        return described(*self.own(request, record_id))


class OperationResponseView(OwnOperation, View):
    """``GET``: the response of an operation, byte for byte; 404 until there is one."""

    def get(self, request: HttpRequest, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        """Give it again."""
        try:
            return response_of(*self.own(request, record_id))
        except IdempotencyError as error:
            return problem_response(request, error, is_form=False)
