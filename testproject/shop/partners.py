"""Who the shop works with: the payment provider, the courier and the mail, one call each.

Every call is one request; the caller decides about the next. A key makes the next one harmless.
"""

import functools
from collections.abc import Mapping
from typing import Any

import httpx
from django.conf import settings

Reply = dict[str, Any]

# Seconds the provider may be silent. Longer than a payment takes, shorter than a request may.
TIMEOUT = 5.0

# Answers that say nothing about the outcome: ask again, with the same key. 409 is the layer's for a
# key whose first request still runs.
_NOT_NOW = frozenset((408, 409, 425, 429))


class ProviderError(Exception):
    """A call to the provider did not return what it asked for."""


class ProviderDownError(ProviderError, ConnectionError):
    """No answer came that says what became of the call: it may have been done."""


class ProviderRefusedError(ProviderError):
    """The provider will not do this, however often it is asked."""


class CardDeclinedError(ProviderRefusedError):
    """The customer's bank says no."""


@functools.cache
def _client() -> httpx.Client:
    """One for all threads: making a client takes 30 ms. It keeps no connection, which could die."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)


def _outcome(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json()
    message = f"{answer.request.method} {answer.url.path}: {answer.status_code} {answer.text}"
    if answer.status_code == httpx.codes.PAYMENT_REQUIRED:
        raise CardDeclinedError(message)
    if answer.is_server_error or answer.status_code in _NOT_NOW:
        raise ProviderDownError(message)
    raise ProviderRefusedError(message)


def _call(method: str, path: str, timeout: float, **parts: Any) -> Any:
    address = f"{settings.SHOP_PROVIDER_URL}{path}"
    try:
        answer = _client().request(method, address, timeout=timeout, **parts)
    except httpx.RequestError as error:
        raise ProviderDownError(f"{method} {path}: {type(error).__name__}") from error
    return _outcome(answer)


def _post(path: str, body: Reply, key: str | None, timeout: float) -> Reply:
    headers = {} if key is None else {"Idempotency-Key": key}
    reply: Reply = _call("POST", path, timeout, json=body, headers=headers)
    return reply


def _find(path: str, key: str, timeout: float) -> Reply | None:
    entries: list[Reply] = _call("GET", path, timeout, params={"key": key})["entries"]
    return entries[0] if entries else None


def charge(
    amount: int, reference: str, *, idempotency_key: str | None, timeout: float = TIMEOUT
) -> Reply:
    """The charge of ``amount`` cents; its ``id`` is what :func:`refund` takes back.

    Raises CardDeclinedError, ProviderRefusedError, or ProviderDownError when it may have been made.
    """
    body = {"amount": amount, "reference": reference}
    return _post("/charges", body, idempotency_key, timeout)


def refund(
    charge: Mapping[str, Any], *, idempotency_key: str | None, timeout: float = TIMEOUT
) -> Reply:
    """The refund of a charge, given as :func:`charge` returned it."""
    return _post("/refunds", {"charge": charge["id"]}, idempotency_key, timeout)


def book_courier(
    address: str, reference: str, *, idempotency_key: str | None, timeout: float = TIMEOUT
) -> Reply:
    """The pickup that takes what ``reference`` names to ``address``."""
    body = {"address": address, "reference": reference}
    return _post("/pickups", body, idempotency_key, timeout)


def cancel_courier(
    pickup: Mapping[str, Any], *, idempotency_key: str | None, timeout: float = TIMEOUT
) -> Reply:
    """The cancellation of a pickup, given as :func:`book_courier` returned it."""
    return _post("/cancellations", {"pickup": pickup["id"]}, idempotency_key, timeout)


def send_receipt(
    recipient: str, reference: str, *, idempotency_key: str | None, timeout: float = TIMEOUT
) -> Reply:
    """The receipt for ``reference``, which is in the mail now."""
    body = {"recipient": recipient, "reference": reference}
    return _post("/receipts", body, idempotency_key, timeout)


def find_charge(*, idempotency_key: str, timeout: float = TIMEOUT) -> Reply | None:
    """The charge that was made with this key; None if there is none, or none yet."""
    return _find("/charges", idempotency_key, timeout)


def find_receipt(*, idempotency_key: str, timeout: float = TIMEOUT) -> Reply | None:
    """The receipt that was sent with this key; None if there is none, or none yet."""
    return _find("/receipts", idempotency_key, timeout)
