"""A real client that makes its own keys and retries by itself: stripe-python.

It calls ``IDEMPOTENCY_TEST_CALLS`` times; `make stripe` lets it call 200 times.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe

from django_idempotency.models import IdempotencyRecord
from tests.app import effects
from tests.app.models import Order
from tests.clients.tunnel import tunnel
from tests.support.live import gunicorn

CALLS = int(os.environ.get("IDEMPOTENCY_TEST_CALLS", "30"))
# Every third answer is lost, so that the answer to a retry may be lost as well.
NTH = 3

pytestmark = [
    pytest.mark.once,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the client's pauses between retries, which are half a second and more."""
    transport: Any = stripe.HTTPClient
    monkeypatch.setattr(transport, "INITIAL_DELAY", 0.01)
    monkeypatch.setattr(transport, "MAX_DELAY", 0.05)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The address of the server."""
    with gunicorn(tmp_path, workers=2, threads=4) as found:
        yield found


def test_every_call_makes_one_charge_though_replies_get_lost(quick: None, address: str) -> None:
    """Each call returns its own charge."""
    with tunnel(address, nth=NTH) as (base, lossy):
        client = stripe.StripeClient(
            "sk_test_tunnel", base_addresses={"api": base}, max_network_retries=4
        )
        charges = [
            client.v1.charges.create({"amount": 1000 + n, "currency": "eur", "source": "tok_visa"})
            for n in range(CALLS)
        ]
    print(
        f"\nstripe {stripe.VERSION}: {CALLS} calls, {lossy.answers} answers, {lossy.lost} lost,"
        f" {effects.count()} charges outside the database, {Order.objects.count()} inside"
    )
    assert lossy.lost >= CALLS // NTH
    assert effects.count() == Order.objects.count() == CALLS
    assert [charge.amount for charge in charges] == [1000 + n for n in range(CALLS)]
    assert len({charge.id for charge in charges}) == CALLS
    assert IdempotencyRecord.objects.count() == CALLS
