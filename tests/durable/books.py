"""What stands in the shop's tables and in its partners' ledger, and whether they agree."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django_idempotency.models import (
    IdempotencyEnvelope,
    IdempotencyRecord,
    IdempotencyStep,
    Status,
    StepStatus,
)
from testproject.provider.server import Provider
from testproject.shop import models
from testproject.shop.models import Order, Receipt

Entries = dict[str, list[dict[str, Any]]]


def entries(provider: Provider) -> Entries:
    """The ledger, by service; what was not done is an empty list."""
    found: Entries = defaultdict(list)
    for entry in provider.ledger():
        found[entry["service"]].append(entry)
    return found


@dataclass(frozen=True, slots=True)
class Count:
    """How much there is of everything."""

    orders: int
    charges: int
    couriers: int
    receipts: int


def count(provider: Provider) -> Count:
    """Orders in the book, and what the partners have done."""
    ledger = entries(provider)
    done = (len(ledger[service]) for service in ("charges", "pickups", "receipts"))
    return Count(Order.objects.count(), *done)


def check_halfway(provider: Provider) -> None:
    """Nothing is there twice, and what commits together is there together."""
    found = count(provider)
    assert max(found.orders, found.charges, found.couriers, found.receipts) <= 1, found
    assert Order.objects.exclude(paid_at=None).count() == Receipt.objects.count()
    assert Order.objects.count() == IdempotencyStep.objects.filter(name="order").count()


def check_delivered(provider: Provider, orders: int = 1) -> None:
    """So many orders, each with one charge, one courier and one receipt, and nothing is left."""
    ledger = entries(provider)
    assert count(provider) == Count(orders, orders, orders, orders)
    assert (ledger["refunds"], ledger["cancellations"]) == ([], [])
    by_ticket = {
        service: {entry["reference"]: entry for entry in ledger[service]}
        for service in ("charges", "pickups", "receipts")
    }
    for order in Order.objects.prefetch_related("receipts"):
        _check_order(order, {name: found[str(order.ticket)] for name, found in by_ticket.items()})
    check_nothing_is_left(orders)


def _check_order(order: Order, done: dict[str, dict[str, Any]]) -> None:
    assert order.status == models.Status.ON_THE_WAY
    assert (str(order.charge), order.price) == (done["charges"]["id"], done["charges"]["amount"])
    assert (str(order.pickup), order.address) == (done["pickups"]["id"], done["pickups"]["address"])
    (receipt,) = order.receipts.all()
    sent = done["receipts"]
    assert (str(receipt.mail), receipt.recipient) == (sent["id"], sent["recipient"])


def check_nothing_is_left(operations: int) -> None:
    """All operations have their response, and no step or envelope is left to finish."""
    assert not IdempotencyEnvelope.objects.exists()
    records = IdempotencyRecord.objects.values_list("status", flat=True)
    assert list(records) == [Status.COMPLETED] * operations
    assert not IdempotencyStep.objects.exclude(status=StepStatus.COMPLETED).exists()


def check_taken_back(provider: Provider) -> None:
    """The order is cancelled, and whatever was done for it has been undone, once."""
    ledger = entries(provider)
    charged = sum(charge["amount"] for charge in ledger["charges"])
    amounts = {charge["id"]: charge["amount"] for charge in ledger["charges"]}
    refunded = sum(amounts[refund["charge"]] for refund in ledger["refunds"])
    assert charged - refunded == 0
    assert len(ledger["charges"]) == len(ledger["refunds"]) <= 1
    assert [pickup["id"] for pickup in ledger["pickups"]] == [
        cancellation["pickup"] for cancellation in ledger["cancellations"]
    ]
    assert ledger["receipts"] == []
    (order,) = Order.objects.all()
    assert order.status == models.Status.CANCELLED
    assert (order.paid_at, order.charge, order.pickup) == (None, None, None)
    assert not Receipt.objects.exists()


def clean(provider: Provider) -> None:
    """Nothing happened yet."""
    provider.reset()
    for model in (Receipt, Order, IdempotencyStep, IdempotencyEnvelope, IdempotencyRecord):
        model._default_manager.all()._raw_delete(using="default")
