"""A user who may do everything."""

import pytest
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture
def admin() -> Client:
    """A superuser's client."""
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client
