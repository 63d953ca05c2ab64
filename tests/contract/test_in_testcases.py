"""Inside Django's test cases a refused request leaves the transaction usable."""

from typing import Any

import pytest
from django.test import TestCase, TransactionTestCase

from django_idempotency.models import IdempotencyRecord
from tests.app.models import Order
from tests.app.urls import API, DOORS
from tests.conftest import atomic_requests_on

KEY = "k" * 32


class _Contract:
    """The tests for both kinds of test case."""

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
        """Queries work after a 400 and after a 401."""
        self._play()

    def test_with_atomic_requests(self: Any) -> None:
        """REST framework marks only the request's own transaction for rollback."""
        with atomic_requests_on("default"):
            self._play()


class InTestCase(_Contract, TestCase):
    """Claims and views join the test's own transaction."""

    databases = "__all__"


class InTransactionTestCase(_Contract, TransactionTestCase):
    """Claims and views have transactions of their own."""

    databases = "__all__"


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("door", DOORS)
def test_replay_works_in_a_testcase(door: str, client: Any) -> None:
    """A project's own tests see one order."""
    replies = [client.post(door, headers={"Idempotency-Key": KEY}) for _ in range(2)]
    assert Order.objects.count() == 1
    assert replies[0].content == replies[1].content
