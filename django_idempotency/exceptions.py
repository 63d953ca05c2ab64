"""What the layer answers when it refuses a request, and how a project's mistakes are named.

::

    Exception
    ├── IdempotencyError            refused: has a status, a code and a title for the client
    │   ├── KeyMissingError         400  idempotency_key_missing
    │   ├── KeyInvalidError         400  idempotency_key_invalid
    │   ├── KeyReusedError          422  idempotency_key_reused
    │   ├── InProgressError         409  idempotency_in_progress         Retry-After
    │   ├── AttemptsExhaustedError  409  idempotency_attempts_exhausted
    │   └── UnavailableError        503  idempotency_unavailable         Retry-After
    └── TransitionError             a guarded UPDATE matched no row: the claim is not ours
"""

from typing import ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class IdempotencyError(Exception):
    """The layer refused the request before its view ran, or threw the view's work away.

    ``retry_after`` is the number of seconds after which the same request may be sent again, or
    ``None`` where sending it again cannot help.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str | Promise]
    retry_after: ClassVar[int | None] = None

    def __init__(self, detail: str | Promise = "") -> None:
        super().__init__(detail)
        self.detail: str | Promise = detail or self.title


class KeyMissingError(IdempotencyError):
    """The view requires a key and the request has none."""

    status = 400
    code = "idempotency_key_missing"
    title = _("This request needs an idempotency key.")


class KeyInvalidError(IdempotencyError):
    """The key is malformed, or too short to be the secret of an anonymous caller."""

    status = 400
    code = "idempotency_key_invalid"
    title = _("The idempotency key is not valid.")


class KeyReusedError(IdempotencyError):
    """The key belongs to another request of the same caller."""

    status = 422
    code = "idempotency_key_reused"
    title = _(
        "This idempotency key was used for another request. Make a new key for a new request."
    )


class InProgressError(IdempotencyError):
    """The first request still runs, or this attempt lost its claim to a takeover."""

    status = 409
    code = "idempotency_in_progress"
    title = _(
        "The first request with this idempotency key is still running. Retry with the same key."
    )
    retry_after = 1


class AttemptsExhaustedError(IdempotencyError):
    """The operation failed as often as the view allows."""

    status = 409
    code = "idempotency_attempts_exhausted"
    title = _("This operation failed too often and is not tried again under this key.")


class UnavailableError(IdempotencyError):
    """The store could not be reached, or cannot say what became of the operation."""

    status = 503
    code = "idempotency_unavailable"
    title = _("The request could not be protected against repetition. Retry with the same key.")
    retry_after = 1


class TransitionError(Exception):
    """A transition's guarded UPDATE matched no row: another attempt owns the record now."""


class StreamingResponseError(TypeError):
    """A covered view returned a streaming response, which no retry could be given again."""
