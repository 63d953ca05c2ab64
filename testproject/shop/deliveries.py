"""A cake that is paid and brought to a door: two partners before it is on the way, one after.

What the shop writes itself is a step, which is one transaction; what a partner does is a call. If
one of them refuses, all that was done before is taken back, the last first.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings

from django_idempotency.exceptions import NotDoneError
from django_idempotency.operation import Operation
from django_idempotency.retry import Retry

from . import gates, kitchen, partners
from .cakes import Cake
from .models import Order, Origin, Receipt, Status

Facts = dict[str, Any]

#: The step in which a card can be declined.
CHARGE = "charge"
# A partner who does not answer is asked again in the same request, and for a moment only: after
# that the client, or the completer, comes back.
RETRY = Retry(attempts=3, cap=timedelta(seconds=1))
REFUSALS = (partners.ProviderRefusedError,)


class WithdrawnError(Exception):
    """The order was cancelled while its partners were asked."""


def place(customer: int | None, cake: str, icing: str, address: str) -> Facts:
    """The order stands in the book, and its cake is in the oven."""
    order = Order.objects.create(
        origin=Origin.DELIVERY,
        status=Status.ORDERED,
        customer_id=customer,
        cake=cake,
        icing=icing,
        address=address,
        price=Cake(cake).price,
    )
    kitchen.bake(order)
    return {"id": order.pk, "ticket": str(order.ticket), "price": order.price}


def cancel(order: Mapping[str, Any]) -> None:
    """Nobody waits for this order any more."""
    Order.objects.cancel(order["id"])


def pay(order: int, charge: str, pickup: str) -> Facts:
    """The order is paid and on its way, and its receipt is in the outbox: one transaction."""
    if not Order.objects.pay(order, charge, pickup):
        raise WithdrawnError
    customer = Order.objects.select_related("customer").get(pk=order).customer
    recipient = (customer and customer.email) or str(customer)
    receipt = Receipt.objects.create(order_id=order, recipient=recipient)
    return {"order": order, "receipt": receipt.pk, "recipient": recipient}


def unpay(paid: Mapping[str, Any]) -> None:
    """The order is not paid, and nothing is in the outbox."""
    Receipt.objects.filter(pk=paid["receipt"]).delete()
    Order.objects.unpay(paid["order"])


def find_receipt(recipient: str, reference: str, *, idempotency_key: str) -> partners.Reply:
    """The receipt that was sent; raises NotDoneError where none was."""
    found = partners.find_receipt(idempotency_key=idempotency_key)
    if found is None:
        raise NotDoneError
    return found


def deliver(op: Operation, customer: int | None, cake: str, icing: str, address: str) -> Order:
    """The order: paid, on its way, and its receipt sent.

    Raises OperationFailedError when somebody refused: it is cancelled then, and its money is back.
    """
    patience = timedelta(seconds=settings.SHOP_CALL_SECONDS)
    order = op.step("order", place, customer, cake, icing, address, undo=cancel)
    charge = op.call(
        CHARGE,
        partners.charge,
        order["price"],
        order["ticket"],
        retry=RETRY,
        fatal=REFUSALS,
        timeout=patience,
        undo=partners.refund,
    )
    gates.go_through(gates.Gate.COURIER)
    pickup = op.call(
        "courier",
        partners.book_courier,
        address,
        order["ticket"],
        retry=RETRY,
        fatal=REFUSALS,
        timeout=patience,
        undo=partners.cancel_courier,
    )
    paid = op.step(
        "paid", pay, order["id"], charge["id"], pickup["id"], fatal=(WithdrawnError,), undo=unpay
    )
    # No sale without a receipt: who refuses to send it refuses the order.
    receipt = op.call(
        "receipt",
        partners.send_receipt,
        paid["recipient"],
        order["ticket"],
        semantics="at_most_once",
        reconcile=find_receipt,
        fatal=REFUSALS,
        timeout=patience,
    )
    return sent(order, paid, receipt)


def sent(order: Facts, paid: Facts, receipt: Facts) -> Order:
    """The order, when the outbox knows that its receipt was sent; harmless when repeated."""
    Receipt.objects.filter(pk=paid["receipt"]).update(mail=receipt["id"])
    return Order.objects.get(pk=order["id"])
