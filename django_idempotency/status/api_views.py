"""The status pages of accepted operations with REST framework's authentication and throttling."""

import uuid
from typing import Any

from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.views import APIView

from ..exceptions import IdempotencyError
from ..http.problems import IdempotencyAPIException
from .state import described, response_of
from .views import OwnOperation


class OperationAPIView(OwnOperation, APIView):
    """``GET`` returns the state of an operation, its steps, and the address of its response."""

    def get(self, request: Request, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        """The state as JSON."""
        return described(*self.own(request, record_id))


class OperationResponseAPIView(OwnOperation, APIView):
    """``GET`` returns the response of an operation, byte for byte; 404 until there is one."""

    def get(self, request: Request, record_id: uuid.UUID, **kwargs: Any) -> HttpResponseBase:
        """The saved response, marked as a replay."""
        try:
            return response_of(*self.own(request, record_id))
        except IdempotencyError as error:
            raise IdempotencyAPIException(error) from error
