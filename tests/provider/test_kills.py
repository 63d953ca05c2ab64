"""The provider is killed by kill -9; its ledger is not."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from testproject.provider.server import Provider, open_provider
from testproject.shop import partners
from tests.provider.patience import eventually

CROWD = 8
# Enough of them that the kill meets several in the middle.
ENTRIES_BEFORE_THE_KILL = 20


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    """A provider for this module alone, in case it does not come back."""
    with open_provider() as provider:
        yield provider


def charge(key: str, timeout: float = partners.TIMEOUT) -> dict[str, Any]:
    return partners.charge(1250, "No. 1", idempotency_key=key, timeout=timeout)


def until_answered(key: str) -> dict[str, Any]:
    """Charge again; a claim that the kill has left is taken over after its grace."""
    return eventually(lambda: charge(key))


def charges_until_killed(name: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Charge with one key after another; the last of them gets no reply."""
    for number in count():
        key = f"{name}-{number}-of-a-long-row"
        try:
            yield key, charge(key)
        except partners.ProviderDownError:
            yield key, None
            return


def test_a_killed_provider_is_down_and_comes_back_with_its_ledger(
    provider: Provider, key: str
) -> None:
    """It remembers its keys as well."""
    entry = charge(key)
    provider.kill()
    with pytest.raises(partners.ProviderDownError, match="ConnectError"):
        charge(key)
    provider.start()
    assert provider.ledger("charges") == [entry]
    assert charge(key) == entry
    assert provider.ledger("charges") == [entry]


def test_what_hung_when_it_was_killed_is_not_done(provider: Provider, key: str) -> None:
    """The retry does it, once."""
    provider.turn("charges", "hang", seconds=60)
    with pytest.raises(partners.ProviderDownError):
        charge(key, timeout=0.1)
    provider.kill()
    provider.start()
    assert partners.find_charge(idempotency_key=key) is None
    assert [charge(key)] == provider.ledger("charges")


def test_every_charge_it_confirmed_survives_a_kill(provider: Provider) -> None:
    """And no key has a second one, whether its reply came or not, after all have asked again."""
    with ThreadPoolExecutor(CROWD) as pool:
        rows = [pool.submit(list, charges_until_killed(f"caller-{n}")) for n in range(CROWD)]
        eventually(lambda: len(provider.ledger("charges")) >= ENTRIES_BEFORE_THE_KILL)
        provider.kill()
        replies = dict(pair for row in rows for pair in row.result())
    provider.start()
    confirmed = [reply for reply in replies.values() if reply]
    ledger = provider.ledger("charges")
    assert len(confirmed) >= ENTRIES_BEFORE_THE_KILL - CROWD
    assert [reply for reply in confirmed if reply not in ledger] == []
    assert {entry["key"] for entry in ledger} <= replies.keys()
    again = {key: until_answered(key) for key in replies}
    assert again == {entry["key"]: entry for entry in provider.ledger("charges")}
    assert len(again) == len(provider.ledger("charges"))
