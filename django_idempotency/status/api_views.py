"""The status pages of accepted operations with REST framework's authentication and throttling."""

from typing import NoReturn

from django.http import HttpRequest
from rest_framework.views import APIView

from ..exceptions import IdempotencyError
from ..http.problems import IdempotencyAPIException
from .views import ShowsResponse, ShowsState


class OperationAPIView(ShowsState, APIView):
    """The state of an operation."""


class OperationResponseAPIView(ShowsResponse, APIView):
    """The response of an operation."""

    def refused(self, request: HttpRequest, error: IdempotencyError) -> NoReturn:
        raise IdempotencyAPIException(error) from error
