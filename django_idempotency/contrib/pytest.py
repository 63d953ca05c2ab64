"""Fixtures for pytest; an entry point registers them wherever this package is installed.

pytest loads this module in projects without Django, too, so the fixtures import what they need.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..testing import IdempotencyAPIClient, IdempotencyAsyncClient, IdempotencyClient


@pytest.fixture
def idempotency_off() -> Iterator[None]:
    """Protection is off in this test: keys have no effect, and none is required."""
    from ..testing import protection_off

    with protection_off():
        yield


@pytest.fixture
def idempotency_client() -> "IdempotencyClient":
    """Django's test client with a fresh key in each covered request."""
    from ..testing import IdempotencyClient

    return IdempotencyClient()


@pytest.fixture
def idempotency_async_client() -> "IdempotencyAsyncClient":
    """Django's asynchronous test client with a fresh key in each covered request."""
    from ..testing import IdempotencyAsyncClient

    return IdempotencyAsyncClient()


@pytest.fixture
def idempotency_api_client() -> "IdempotencyAPIClient":
    """REST framework's test client with a fresh key in each covered request."""
    from ..testing import IdempotencyAPIClient

    return IdempotencyAPIClient()
