"""Every refusal there is: by its code, the request through a door that is refused with it."""

from collections.abc import Callable
from io import StringIO
from typing import Any
from unittest.mock import patch

from django.core.cache import cache
from django.core.management import call_command
from django.db import OperationalError
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.test import override_settings

from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.retry import Retry
from django_idempotency.storage.records import Store

from ..app.views import ACTS, order
from ..conftest import Post

#: Called with a client, a door's path, a fresh key, and headers for the request to be refused.
Refusal = Callable[..., HttpResponse]


def missing(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """No key where one is required."""
    with override_settings(IDEMPOTENCY_REQUIRED=True):
        return post(door, **headers)


def invalid(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """Two keys in one header."""
    return post(door, f"{key}, {key}", **headers)


def reused(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """The key of another order."""
    post(door, key)
    return post(door, key, body={"cake": "carrot"}, **headers)


def erased(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """The key of an order that was erased."""
    post(door, key)
    scope = IdempotencyRecord.objects.get(key=key).scope
    call_command("idempotency_erase", scope=scope, stdout=StringIO())
    return post(door, key, **headers)


def in_progress(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """The key of an order whose lease is not over."""
    post(door, key)
    answer = ["response_status", "response_headers", "response_body", "completed_at"]
    IdempotencyRecord.objects.filter(key=key).update(
        status=Status.IN_PROGRESS, atomic=False, **dict.fromkeys(answer)
    )
    return post(door, key, **headers)


def exhausted(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """The key of an order that failed as often as it may."""
    with override_settings(IDEMPOTENCY_MAX_ATTEMPTS=1):
        post(door, key, act="crash")
        return post(door, key, act="crash", **headers)


def over_quota(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """One key more than the caller may use."""
    cache.clear()
    with override_settings(IDEMPOTENCY_MAX_KEYS_PER_SCOPE=1):
        post(door, key[::-1])
        return post(door, key, **headers)


def _calling(
    post: Post, door: str, key: str, headers: dict[str, str], **how: object
) -> HttpResponse:
    """An order whose view commits by itself, and calls a service that is down."""

    def nobody(*, idempotency_key: str) -> None:
        raise ConnectionError

    def act(request: Any, nonce: str) -> HttpResponseBase:
        request.idempotency.call("charge", nobody, **how)
        return order(request, nonce)

    with patch.dict(ACTS, {"call": act}), override_settings(IDEMPOTENCY_ATOMIC=False):
        return post(door, key, act="call", **headers)


def failed(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """A call that failed for good."""
    return _calling(post, door, key, headers, fatal=(ConnectionError,))


def unknown(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """A call that must not be made twice, and may have been made."""
    return _calling(post, door, key, headers, semantics="at_most_once")


def pending(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """A call that was tried as often as one request may."""
    return _calling(post, door, key, headers, retry=Retry(attempts=1))


def unavailable(post: Post, door: str, key: str, **headers: str) -> HttpResponse:
    """A store that is gone."""
    with patch.object(Store, "insert", side_effect=OperationalError("gone")):
        return post(door, key, **headers)


REFUSALS: dict[str, Refusal] = {
    "idempotency_key_missing": missing,
    "idempotency_key_invalid": invalid,
    "idempotency_key_reused": reused,
    "idempotency_key_erased": erased,
    "idempotency_in_progress": in_progress,
    "idempotency_attempts_exhausted": exhausted,
    "idempotency_operation_failed": failed,
    "idempotency_outcome_unknown": unknown,
    "idempotency_quota_exceeded": over_quota,
    "idempotency_operation_pending": pending,
    "idempotency_unavailable": unavailable,
}
