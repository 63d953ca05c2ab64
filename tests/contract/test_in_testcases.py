"""The app inside Django's test cases: a refused request leaves the transaction usable."""

from typing import Any

import pytest
from django.test import TestCase, TransactionTestCase

from django_idempotency.models import IdempotencyRecord
from tests.app.models import Order
from tests.app.urls import API, DOORS
from tests.conftest import atomic_requests_on

KEY = "k" * 32


class _Contract:
    """What holds in both kinds of test case."""

    client: Any

    def _post(self: Any, door: str, act: str) -> Any:
        return self.client.post(f"{door}?act={act}", headers={"Idempotency-Key": KEY})

    def _play(self: Any) -> None:
        for door in DOORS:
            IdempotencyRecord.objects.all().delete()
            before = Order.objects.count()
            assert self._post(door, "unauthorized").status_code == 401
            assert Order.objects.count() == before + 1
            assert self._post(door, "order").status_code in (201, 422)
            if door in API:
                IdempotencyRecord.objects.all().delete()
                assert self._post(door, "invalid").status_code == 400
                assert Order.objects.count() >= before + 1

    def test_without_atomic_requests(self: Any) -> None:
        """400 and 401, each followed by a query."""
        self._play()

    def test_with_atomic_requests(self: Any) -> None:
        """The same where REST framework marks the request's transaction for rollback."""
        with atomic_requests_on("default"):
            self._play()


class InTestCase(_Contract, TestCase):
    """Everything joins the test's own transaction."""

    databases = "__all__"


class InTransactionTestCase(_Contract, TransactionTestCase):
    """Real transactions."""

    databases = "__all__"


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("door", DOORS)
def test_replay_works_in_a_testcase(door: str, client: Any) -> None:
    """A user's own tests see one order."""
    replies = [client.post(door, headers={"Idempotency-Key": KEY}) for _ in range(2)]
    assert Order.objects.count() == 1
    assert replies[0].content == replies[1].content
