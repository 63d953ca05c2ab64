"""How the provider misbehaves, and what the shop makes of it."""

from typing import Any

import httpx
import pytest

from testproject.provider.server import Provider
from testproject.shop import partners
from tests.provider.patience import eventually


def charge(key: str, timeout: float = partners.TIMEOUT) -> dict[str, Any]:
    return partners.charge(1250, "No. 1", idempotency_key=key, timeout=timeout)


def found(key: str) -> dict[str, Any]:
    """The charge with this key, as soon as it is made."""
    return eventually(lambda: partners.find_charge(idempotency_key=key))


def test_a_failing_provider_does_nothing(provider: Provider, key: str) -> None:
    """After so many failures the same key is served."""
    provider.turn("charges", "fail", times=2)
    for _ in range(2):
        with pytest.raises(partners.ProviderDownError, match="503"):
            charge(key)
    assert provider.ledger("charges") == []
    served = charge(key)
    assert provider.ledger("charges") == [served]
    assert [call["mood"] for call in provider.calls("charges")] == ["fail", "fail", "well"]


def test_a_declined_card_stays_declined_for_its_key(provider: Provider, key: str) -> None:
    """Another key is another try."""
    provider.turn("charges", "decline", times=1)
    for _ in range(2):
        with pytest.raises(partners.CardDeclinedError):
            charge(key)
    assert provider.ledger("charges") == []
    again = charge(f"{key}-again")
    assert provider.ledger("charges") == [again]


def test_what_hangs_is_done_though_nobody_waits_for_it(provider: Provider, key: str) -> None:
    """It delays no other call, and a retry with the same key gets its result."""
    provider.turn("charges", "hang", times=1, seconds=1.0)
    with pytest.raises(partners.ProviderDownError, match="ReadTimeout"):
        charge(key, timeout=0.1)
    eventually(lambda: provider.calls("charges", mood="hang"))
    other, late = charge(f"{key}-other"), found(key)
    assert charge(key) == late
    assert provider.ledger("charges") == [other, late]


def test_what_hangs_is_done_before_everything_is_forgotten(provider: Provider, key: str) -> None:
    """It would be in the next one's ledger otherwise."""
    provider.turn("charges", "hang", times=1, seconds=60)
    with pytest.raises(partners.ProviderDownError, match="ReadTimeout"):
        charge(key, timeout=0.1)
    eventually(lambda: provider.calls("charges", mood="hang"))
    provider.hurry()
    assert [entry["key"] for entry in provider.ledger("charges")] == [key]
    provider.turn("charges", "hang", times=1, seconds=1.0)
    with pytest.raises(partners.ProviderDownError, match="ReadTimeout"):
        charge(f"{key}-late", timeout=0.1)
    eventually(lambda: provider.calls("charges", key=f"{key}-late"))
    provider.reset()
    provider.hurry()
    assert provider.ledger() == []


def test_a_lost_reply_leaves_its_charge(provider: Provider, key: str) -> None:
    """The connection ends without a byte; the retry gets the reply that was lost."""
    provider.turn("charges", "lose", times=1)
    with pytest.raises(partners.ProviderDownError) as raised:
        charge(key)
    assert isinstance(raised.value.__cause__, httpx.RemoteProtocolError)
    lost = provider.ledger("charges")
    assert lost == [charge(key)]
    assert provider.ledger("charges") == lost


def test_a_mood_without_a_number_lasts(provider: Provider, key: str) -> None:
    """It lasts until the test sets the mood ``well``."""
    provider.turn("charges", "fail")
    for _ in range(3):
        with pytest.raises(partners.ProviderDownError):
            charge(key)
    provider.turn("charges", "well")
    served = charge(key)
    assert provider.ledger("charges") == [served]


def test_each_service_has_a_mood_of_its_own(provider: Provider, key: str) -> None:
    """The courier comes though no card is charged."""
    provider.turn("charges", "fail")
    pickup = partners.book_courier("4 Rue Morgue", "No. 1", idempotency_key=key)
    assert provider.ledger("pickups") == [pickup]


@pytest.mark.parametrize(
    "moods",
    [{"cakes": {"mood": "fail"}}, {"charges": {"mood": "sad"}}, {"charges": "fail"}],
    ids=["unknown service", "unknown mood", "no spell"],
)
def test_a_mood_that_cannot_be_had_is_refused(provider: Provider, moods: dict[str, Any]) -> None:
    """And none of those sent with it is taken on."""
    sent = {"pickups": {"mood": "fail"}, **moods}
    with httpx.Client(base_url=provider.address, trust_env=False) as client:
        before = client.get("/mood").json()
        assert client.put("/mood", json=sent).status_code == 400
        assert client.get("/mood").json() == before
