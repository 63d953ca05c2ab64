"""The provider's own Idempotency-Key."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from testproject.provider.server import Provider
from testproject.shop import partners

CROWD = 16


def test_a_repeated_key_gets_the_reply_it_had(provider: Provider, key: str) -> None:
    """Two calls, one entry."""
    first, second = (partners.charge(1250, "No. 1", idempotency_key=key) for _ in range(2))
    assert provider.ledger("charges") == [first]
    assert second == first
    assert len(provider.calls("charges", key=key)) == 2


def test_without_a_key_a_repeated_call_is_another_charge(provider: Provider) -> None:
    """Without a key the provider cannot tell a retry from a new call."""
    first, second = (partners.charge(1250, "No. 1", idempotency_key=None) for _ in range(2))
    assert provider.ledger("charges") == [first, second]


def test_a_key_that_comes_with_another_amount_is_refused(provider: Provider, key: str) -> None:
    """The first charge stands as it is."""
    charge = partners.charge(1250, "No. 1", idempotency_key=key)
    with pytest.raises(partners.ProviderRefusedError, match="idempotency_key_reused"):
        partners.charge(1300, "No. 1", idempotency_key=key)
    assert provider.ledger("charges") == [charge]


def test_a_crowd_with_one_key_makes_one_charge(provider: Provider, key: str) -> None:
    """Some get 409; all that get a reply get the same one."""
    start = Barrier(CROWD)

    def ask(_: int) -> dict[str, Any] | None:
        start.wait(10)
        try:
            return partners.charge(1250, "No. 1", idempotency_key=key, timeout=20)
        except partners.ProviderDownError:
            return None

    with ThreadPoolExecutor(CROWD) as pool:
        replies = list(pool.map(ask, range(CROWD)))
    (charge,) = provider.ledger("charges")
    assert [reply for reply in replies if reply not in (None, charge)] == []
    assert charge in replies
    assert partners.charge(1250, "No. 1", idempotency_key=key) == charge
    assert len(provider.calls("charges", key=key)) == CROWD + 1
