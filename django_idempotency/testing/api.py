"""REST framework's test client, with keys; importing this needs REST framework."""

from rest_framework.test import APIClient

from .clients import IdempotencyClientMixin


class IdempotencyAPIClient(IdempotencyClientMixin, APIClient):
    """REST framework's test client with a fresh key in each covered request."""
