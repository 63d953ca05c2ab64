"""Helpers for a project's own tests: clients that send keys, assertions, and a way to age records.

They work in Django's test cases and under pytest, and need nothing but Django.
"""

from contextlib import suppress

from .assertions import assert_idempotent, assert_not_replayed, assert_replayed
from .clients import (
    IdempotencyAsyncClient,
    IdempotencyClient,
    IdempotencyClientMixin,
    fresh_headers,
)
from .conditions import age_record, age_records, protection_off

with suppress(ImportError):  # an extra
    from .api import IdempotencyAPIClient as IdempotencyAPIClient

__all__ = [
    "IdempotencyAsyncClient",
    "IdempotencyClient",
    "IdempotencyClientMixin",
    "age_record",
    "age_records",
    "assert_idempotent",
    "assert_not_replayed",
    "assert_replayed",
    "fresh_headers",
    "protection_off",
]
