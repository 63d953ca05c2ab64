"""The refusals that clients get, and the errors that views and projects see.

::

    Exception
    ├── IdempotencyError            refused; tells the client what happened and what to do next
    │   ├── KeyMissingError         400  idempotency_key_missing         fix_request
    │   ├── KeyInvalidError         400  idempotency_key_invalid         fix_request
    │   ├── KeyReusedError          422  idempotency_key_reused          use_new_key
    │   ├── KeyErasedError          410  idempotency_key_erased          use_new_key
    │   ├── InProgressError         409  idempotency_in_progress         retry_same_key  Retry-After
    │   ├── AttemptsExhaustedError  409  idempotency_attempts_exhausted  use_new_key
    │   ├── OperationFailedError    409  idempotency_operation_failed    use_new_key
    │   ├── OutcomeUnknownError     409  idempotency_outcome_unknown     retry_same_key  Retry-After
    │   ├── QuotaExceededError      429  idempotency_quota_exceeded      retry_same_key  Retry-After
    │   ├── OperationPendingError   503  idempotency_operation_pending   retry_same_key  Retry-After
    │   └── UnavailableError        503  idempotency_unavailable         retry_same_key  Retry-After
    ├── TransitionError             a guarded UPDATE matched no row: the claim is not ours
    ├── StepDriftError              a recorded step was called with other arguments
    ├── NotDoneError                raised by a project's ``reconcile``: the call had no effect
    └── RetriesExhaustedError       a call failed as often, or as long, as its Retry allows
"""

from enum import StrEnum
from typing import ClassVar

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Remedy(StrEnum):
    """What the client should do next; the same for every refusal with the same code."""

    #: Send the same request with the same key again, after a while.
    RETRY_SAME_KEY = "retry_same_key"
    #: Do not use this key again: what is still wanted is a new request with a new key.
    USE_NEW_KEY = "use_new_key"
    #: Correct the request; unchanged, it will be refused again.
    FIX_REQUEST = "fix_request"


class IdempotencyError(Exception):
    """The request was refused before its view ran, or the view's work was rolled back.

    ``title`` names the kind of refusal and never varies, as RFC 9457 requires. ``cause`` says what
    happened this time, and ``advice`` what the client should do about it. ``retry_after`` is the
    number of seconds after which the same request may be sent again, or None where that cannot
    help.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str | Promise]
    remedy: ClassVar[Remedy]
    cause: str | Promise
    advice: ClassVar[str | Promise]
    retry_after: ClassVar[int | None] = None

    def __init__(self, cause: str | Promise = "") -> None:
        super().__init__(cause)
        if cause:
            self.cause = cause

    def __str__(self) -> str:
        return self.detail

    @property
    def detail(self) -> str:
        """Cause and advice, in the language that is active now."""
        return f"{self.cause} {self.advice}"


class KeyMissingError(IdempotencyError):
    """The view requires a key and the request has none."""

    status = 400
    code = "idempotency_key_missing"
    title = _("The idempotency key is missing.")
    remedy = Remedy.FIX_REQUEST
    cause = _("This operation needs an idempotency key, and the request has none.")
    advice = _("Make a key, and send the request again with it.")


class KeyInvalidError(IdempotencyError):
    """The key is malformed, or too short to be the secret of an anonymous caller."""

    status = 400
    code = "idempotency_key_invalid"
    title = _("The idempotency key is not valid.")
    remedy = Remedy.FIX_REQUEST
    cause = _("The idempotency key is malformed or too short.")
    advice = _("Correct the key, and send the request again.")


class KeyReusedError(IdempotencyError):
    """The key belongs to another request of the same caller."""

    status = 422
    code = "idempotency_key_reused"
    title = _("The idempotency key was used for another request.")
    remedy = Remedy.USE_NEW_KEY
    cause = _("This key came first with another request, so nothing was done this time.")
    advice = _("Make a new key for a new request; repeat a request exactly as it was first sent.")


class KeyErasedError(IdempotencyError):
    """The key was used before, and its record has been erased."""

    status = 410
    code = "idempotency_key_erased"
    title = _("The idempotency key was erased.")
    remedy = Remedy.USE_NEW_KEY
    cause = _("This key was used before, and its reply has been erased.")
    advice = _("Find out whether what you wanted has been done; if not, make a new key.")


class InProgressError(IdempotencyError):
    """The first request still runs, or this attempt lost its claim to a takeover."""

    status = 409
    code = "idempotency_in_progress"
    title = _("The first request is still running.")
    remedy = Remedy.RETRY_SAME_KEY
    cause = _("Another request with this key has not finished yet.")
    advice = _("Wait a moment, then send the same request with the same key again.")
    retry_after = 1


class AttemptsExhaustedError(IdempotencyError):
    """The operation failed as often as the view allows."""

    status = 409
    code = "idempotency_attempts_exhausted"
    title = _("The operation failed too often.")
    remedy = Remedy.USE_NEW_KEY
    cause = _("The attempts under this key are used up, so it was not tried again.")
    advice = _("Find out why they failed; to try again, make a new key.")


class OperationFailedError(IdempotencyError):
    """A step failed for good, and the steps before it have been undone.

    ``step`` is its name and ``error`` the name of the exception's class. A view may catch this and
    answer in its own words; every later attempt fails in the same way.
    """

    status = 409
    code = "idempotency_operation_failed"
    title = _("The operation failed.")
    remedy = Remedy.USE_NEW_KEY
    cause = _("A part of the operation was refused, and what was done before it was taken back.")
    advice = _("Repeating this request will not help; what is still wanted needs a new key.")

    def __init__(self, step: str = "", error: str = "") -> None:
        super().__init__()
        self.step = step
        self.error = error


class OutcomeUnknownError(IdempotencyError):
    """An at-most-once call may have been made, and its outcome is unknown."""

    status = 409
    code = "idempotency_outcome_unknown"
    title = _("The outcome of the operation is unknown.")
    remedy = Remedy.RETRY_SAME_KEY
    cause = _("A part of the operation may have been done, and must not be done twice.")
    advice = _(
        "Somebody has to find out. Send the same request with the same key again later; with a new"
        " key it could be carried out twice."
    )
    # Until a person has looked, another attempt cannot help.
    retry_after = 60


class QuotaExceededError(IdempotencyError):
    """The caller used as many new keys as the view allows in one retention."""

    status = 429
    code = "idempotency_quota_exceeded"
    title = _("Too many idempotency keys were used.")
    remedy = Remedy.RETRY_SAME_KEY
    cause = _("No more new keys are accepted from this caller for now, so nothing was done.")
    advice = _(
        "Wait a while, then send the same request with the same key again. Requests whose keys were"
        " accepted before can be repeated at any time."
    )
    # The window may be a day, but a retry each minute costs the server one look at the cache.
    retry_after = 60


class OperationPendingError(IdempotencyError):
    """A step could not be done in this request; the next attempt continues there."""

    status = 503
    code = "idempotency_operation_pending"
    title = _("The operation is not finished yet.")
    remedy = Remedy.RETRY_SAME_KEY
    cause = _("A service that is needed does not answer, so the operation has stopped half-way.")
    advice = _("Wait a moment, then send the same request with the same key again: it goes on.")
    retry_after = 1


class UnavailableError(IdempotencyError):
    """The store could not be reached, or the outcome of the operation is not known yet."""

    status = 503
    code = "idempotency_unavailable"
    title = _("The service is temporarily unavailable.")
    remedy = Remedy.RETRY_SAME_KEY
    cause = _("The request could not be protected, or nobody can say yet what became of it.")
    advice = _(
        "Wait a moment, then send the same request with the same key again. With a new key it"
        " could be carried out twice."
    )
    retry_after = 1


#: Every refusal, in the order of their statuses.
REFUSALS = tuple(sorted(IdempotencyError.__subclasses__(), key=lambda error: error.status))


class TransitionError(Exception):
    """A transition's guarded UPDATE matched no row: another attempt owns the record."""


class StepDriftError(Exception):
    """A recorded step was called with other arguments than those it was recorded with."""


class NotDoneError(Exception):
    """For a project's ``reconcile`` to raise: the call had no effect and may be repeated."""


class RetriesExhaustedError(Exception):
    """A call failed as often, or for as long, as its Retry allows; the cause is the last error."""


class StreamingResponseError(TypeError):
    """A covered view returned a streaming response, which cannot be stored for a retry."""


#: The values of a record's ``error`` after which another attempt would fail in the same way.
FINAL_ERRORS = frozenset((OperationFailedError.__name__, AttemptsExhaustedError.__name__))
