"""A receipt is mailed at most once: after a kill in the call it is never mailed again."""

import pytest
from django.test import override_settings
from pytest_django import Settings

from django_idempotency.durable.completer import Completion
from django_idempotency.exceptions import OperationPendingError, OutcomeUnknownError
from django_idempotency.models import IdempotencyStep, StepStatus
from testproject.provider.server import Provider
from tests.crash.boundaries import Strike

from . import books
from .finishing import FINISH, by_the_client, let_the_lease_run_out, run_the_completer
from .versions import VERSIONS
from .victim import Errand, Request, kill_a_worker

pytestmark = pytest.mark.django_db(transaction=True)


def killed(request: Request, when: str, version: str = "first") -> None:
    """A worker has died before, or after the mail has done its part."""
    strike = Strike("POST /receipts", when, "kill")
    kill_a_worker(Errand(request, (strike,), version))
    assert status_of_the_receipt() == StepStatus.STARTED
    let_the_lease_run_out()


def status_of_the_receipt() -> str:
    return IdempotencyStep.objects.get(name="receipt").status


def test_killed_in_the_call_is_unknown_and_never_called_again(
    provider: Provider, token: str
) -> None:
    """Not by the client, not by the completer; a version that can find out finishes it."""
    request = Request(token)
    killed(request, "after", "unreconciled")
    with override_settings(ROOT_URLCONF=VERSIONS["unreconciled"]):
        for _ in range(3):
            reply = request.send()
            assert (reply.status, reply.code) == (409, OutcomeUnknownError.code)
            assert run_the_completer() == [Completion.PENDING]
            assert status_of_the_receipt() == StepStatus.UNKNOWN
    assert len(provider.calls("receipts")) == 1
    assert by_the_client(request).status == 201
    assert len(provider.calls("receipts")) == 1
    books.check_delivered(provider)


@pytest.mark.parametrize("when", FINISH)
def test_killed_in_the_call_is_reconciled(provider: Provider, token: str, when: str) -> None:
    """The mail knows the key: the receipt was sent."""
    request = Request(token)
    killed(request, "after")
    assert FINISH[when](request).status == 201
    assert len(provider.calls("receipts")) == 1
    books.check_delivered(provider)


@pytest.mark.parametrize("when", FINISH)
def test_killed_before_the_call_is_called_once(provider: Provider, token: str, when: str) -> None:
    """The mail does not know the key: the receipt was not sent."""
    request = Request(token)
    killed(request, "before")
    assert FINISH[when](request).status == 201
    assert len(provider.calls("receipts")) == 1
    books.check_delivered(provider)


def test_lost_reply_is_reconciled_in_the_same_request(provider: Provider, token: str) -> None:
    """No retry is needed."""
    provider.turn("receipts", "lose", times=1)
    assert Request(token).send().status == 201
    assert len(provider.calls("receipts")) == 1
    books.check_delivered(provider)


def test_unanswered_call_that_is_not_done_yet_is_made_again_with_its_key(
    provider: Provider, token: str, settings: Settings
) -> None:
    """The mail does it late and once: what is not done yet looks like what will never be done."""
    settings.SHOP_CALL_SECONDS = 0.2
    provider.turn("receipts", "hang", times=1, seconds=1.0)
    request = Request(token)
    reply = request.send()
    assert (reply.status, reply.code) == (503, OperationPendingError.code)
    assert status_of_the_receipt() == StepStatus.UNKNOWN
    settings.SHOP_CALL_SECONDS = 5.0
    assert by_the_client(request).status == 201
    assert len(provider.calls("receipts")) == 2
    # The provider does what hangs in the end, after its caller has given up.
    provider.hurry()
    books.check_delivered(provider)
