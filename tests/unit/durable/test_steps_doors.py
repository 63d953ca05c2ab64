"""Steps where a transaction is open already: ATOMIC_REQUESTS, test cases, a caller's own."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.retry import Retry
from tests.app.models import Order
from tests.conftest import Post
from tests.support import stage
from tests.support.stage import (
    ON_STAGE,
    DownError,
    Service,
    bake,
    completed,
    fails_first,
    outcome,
    plays,
    steps,
)

pytestmark = ON_STAGE

KEY = "k" * 32


def test_plain_view_commits_by_itself_under_atomic_requests(
    key: str, post: Post, atomic_requests: bool
) -> None:
    """The project's transaction would hold all of it; the view keeps out."""
    service = Service()

    @plays
    @fails_first
    def act(op: Any) -> Any:
        assert not connection.in_atomic_block
        return op.step("ride", bake), op.call("charge", service)["id"]

    assert post("/plain/", key).status_code == 500
    assert steps() == {"ride": "completed", "charge": "completed"}
    assert outcome(post("/plain/", key))
    assert Order.objects.count() == len(service.keys) == 1
    assert post("/plain/").status_code == 201


@pytest.mark.drf
def test_view_of_rest_framework_commits_by_itself_under_atomic_requests(
    key: str, atomic_requests: bool
) -> None:
    """And its errors are REST framework's."""
    from django.contrib.auth.models import User
    from rest_framework.authtoken.models import Token

    service = Service(*[DownError()] * 2)
    retry = Retry(attempts=2, base=Retry().base * 0)
    plays(lambda op: [op.step("ride", bake), op.call("charge", service, retry=retry)])
    token = Token.objects.create(user=User.objects.create(username="ada")).key
    headers = {"Idempotency-Key": key, "Authorization": f"Token {token}"}
    reply: Any = Client().post("/api/", headers=headers)
    assert (reply.status_code, reply["Retry-After"]) == (503, "1")
    assert reply.json()["detail"]
    assert steps() == {"ride": "completed", "charge": "retrying"}
    assert completed() == ["completed"]
    assert Order.objects.count() == 1


def test_atomic_view_is_one_transaction_under_atomic_requests(
    key: str, post: Post, atomic_requests: bool
) -> None:
    """Steps are savepoints in it."""
    plays(fails_first(lambda op: op.step("ride", bake)))
    assert post("/whole/", key).status_code == 500
    assert (Order.objects.count(), steps()) == (0, {})
    with CaptureQueriesContext(connection) as captured:
        assert outcome(post("/whole/", key))
    begun = sum(query["sql"].startswith("BEGIN") for query in captured)
    assert begun <= 1 + (connection.vendor == "postgresql")
    assert steps() == {"ride": "completed"}


def joined(key: str) -> Any:
    """A request that is answered inside of its caller's transaction."""
    request = RequestFactory().post("/plain/", headers={"Idempotency-Key": key})
    return stage.plain(request)


def test_steps_of_a_joined_claim_are_part_of_its_transaction(key: str) -> None:
    """They are rolled back together."""

    @plays
    def act(op: Any) -> Any:
        op.heartbeat()
        if connection.in_atomic_block:
            with pytest.raises(transaction.TransactionManagementError):
                op.call("charge", Service())
        return op.step("ride", bake)

    with transaction.atomic():
        assert outcome(joined(key))
        assert steps() == {"ride": "completed"}
        assert outcome(joined(key))
        transaction.set_rollback(True)
    assert Order.objects.count() == 0
    assert not IdempotencyRecord.objects.exists()
    assert not IdempotencyStep.objects.exists()
    assert outcome(joined(key))


def test_step_that_fails_in_a_joined_claim_leaves_the_caller_s_transaction_usable(
    key: str,
) -> None:
    """It is a savepoint."""

    def fails() -> None:
        bake()
        raise DownError

    @plays
    def act(op: Any) -> Any:
        with pytest.raises(DownError):
            op.step("ride", fails)
        return op.step("pay", bake, "pay")

    with transaction.atomic():
        assert outcome(joined(key))
    assert Order.objects.count() == 1
    assert steps() == {"pay": "completed"}


def test_view_that_joins_under_atomic_requests_says_that_calls_cannot_be_made(
    key: str, post: Post, atomic_requests: bool
) -> None:
    """Its door is hidden from Django, whose transaction it cannot keep out of."""
    service = Service()

    @plays
    @fails_first
    def act(op: Any) -> Any:
        done = op.step("ride", bake)
        if connection.in_atomic_block:
            with pytest.raises(
                transaction.TransactionManagementError, match="inside a transaction"
            ):
                op.call("charge", service)
        else:
            op.call("charge", service)
        return done

    assert post("/hidden/", key).status_code == 500
    assert outcome(post("/hidden/", key))
    assert Order.objects.count() == 1
    assert len(service.keys) <= 1
