"""Who asks: always the same customer, for whom nothing is looked up.

Some contestants protect only requests of a known user, and most keep users apart.
"""

from django.contrib.auth.models import User
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

CUSTOMER = User(pk=1, username="customer")


class Customer(BaseAuthentication):
    """Takes everybody for the customer."""

    def authenticate(self, request: Request) -> tuple[User, None]:
        return CUSTOMER, None
