"""What the shop can have done, and what the ledger says of it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from testproject import gunicorns
from testproject.provider.server import Provider, variables
from testproject.shop import partners

Ask = Callable[[str | None], dict[str, Any]]

SERVICES: dict[str, tuple[Ask, dict[str, Any]]] = {
    "charges": (
        lambda key: partners.charge(1250, "No. 1", idempotency_key=key),
        {"amount": 1250, "reference": "No. 1"},
    ),
    "pickups": (
        lambda key: partners.book_courier("4 Rue Morgue", "No. 1", idempotency_key=key),
        {"address": "4 Rue Morgue", "reference": "No. 1"},
    ),
    "receipts": (
        lambda key: partners.send_receipt("ada@example.com", "No. 1", idempotency_key=key),
        {"recipient": "ada@example.com", "reference": "No. 1"},
    ),
}


@pytest.mark.parametrize("service", SERVICES)
def test_what_was_asked_for_stands_in_the_ledger(provider: Provider, service: str) -> None:
    """The reply is its entry, and knows the key."""
    (ask, details), key = SERVICES[service], str(uuid4())
    reply = ask(key)
    assert provider.ledger(service) == [reply]
    assert reply.items() >= {"key": key, **details}.items()


def test_a_refund_names_its_charge(provider: Provider, key: str) -> None:
    """It takes what charge() returned, as an undo is given it."""
    charge = partners.charge(1250, "No. 1", idempotency_key=key)
    refund = partners.refund(charge, idempotency_key=f"{key}-undo")
    assert provider.ledger("refunds", charge=charge["id"]) == [refund]


@pytest.mark.parametrize("charge", [str(uuid4()), "none"], ids=["unknown", "malformed"])
def test_a_refund_of_no_charge_is_refused(provider: Provider, key: str, charge: str) -> None:
    """For good: it would be no better the next time."""
    with pytest.raises(partners.ProviderRefusedError):
        partners.refund({"id": charge}, idempotency_key=key)
    assert provider.ledger("refunds") == []


def test_an_amount_below_one_cent_is_refused(provider: Provider, key: str) -> None:
    """The call was counted all the same."""
    with pytest.raises(partners.ProviderRefusedError, match="amount"):
        partners.charge(0, "No. 1", idempotency_key=key)
    assert provider.ledger("charges") == []
    assert len(provider.calls("charges", key=key)) == 1


def test_a_charge_is_found_by_its_key_alone(provider: Provider, key: str) -> None:
    """And not among the other services' entries."""
    assert partners.find_charge(idempotency_key=key) is None
    charge = partners.charge(1250, "No. 1", idempotency_key=key)
    partners.charge(1250, "No. 1", idempotency_key=f"{key}-other")
    assert partners.find_charge(idempotency_key=key) == charge
    assert partners.find_receipt(idempotency_key=key) is None


def test_the_migrations_are_what_the_models_ask_for(tmp_path: Path) -> None:
    """The shop's settings do not know these models."""
    command = [sys.executable, "-m", "testproject.manage", "makemigrations", "provider", "--check"]
    environment = variables(str(tmp_path / "provider.sqlite3"))
    subprocess.run(command, cwd=gunicorns.ROOT, env=environment, check=True)
