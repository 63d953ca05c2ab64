"""The versions of the shop that a request and its retry may meet: deploys, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from django.urls import URLPattern, URLResolver, include, path

from testproject.shop import deliveries, kitchen, partners
from testproject.shop.deliveries import REFUSALS, RETRY, WithdrawnError
from testproject.shop.delivery_api import DeliveryLaterView, DeliveryView, OrderingRequest
from testproject.shop.models import Order, Status


@dataclass(frozen=True, eq=False)
class Version:
    """What Django takes for a URLconf."""

    urlpatterns: list[URLPattern | URLResolver] = field(default_factory=list)


def wrap(order: Mapping[str, Any]) -> int:
    """A step that only the second version has: the cake is wrapped, which the kitchen notes."""
    kitchen.bake(Order.objects.get(pk=order["id"]))
    return int(order["id"])


class SecondView(DeliveryView):
    """A step is new, the courier comes before the money, and the charge has another name."""

    def deliver(self, request: OrderingRequest, **wish: str) -> Order:
        op = request.idempotency
        asked = (request.user.pk, wish["cake"], wish["icing"], wish["address"])
        order = op.step("order", deliveries.place, *asked, undo=deliveries.cancel)
        op.step("wrap", wrap, order)
        ticket = order["ticket"]
        pickup = op.call(
            *("courier", partners.book_courier, wish["address"], ticket),
            retry=RETRY,
            fatal=REFUSALS,
            undo=partners.cancel_courier,
        )
        charge = op.call(
            *("payment", partners.charge, order["price"], ticket),
            aliases=("charge",),
            retry=RETRY,
            fatal=REFUSALS,
            undo=partners.refund,
        )
        paid = op.step(
            *("paid", deliveries.pay, order["id"], charge["id"], pickup["id"]),
            fatal=(WithdrawnError,),
            undo=deliveries.unpay,
        )
        receipt = op.call(
            *("mail", partners.send_receipt, paid["recipient"], ticket),
            aliases=("receipt",),
            semantics="at_most_once",
            reconcile=deliveries.find_receipt,
            fatal=REFUSALS,
        )
        return deliveries.sent(order, paid, receipt)


class UnreconciledView(DeliveryView):
    """No step can find out whether a receipt was sent."""

    def deliver(self, request: OrderingRequest, **wish: str) -> Order:
        with patch.object(deliveries, "find_receipt", None):
            return super().deliver(request, **wish)


class WithdrawnView(DeliveryView):
    """The customer cancels while the courier is called."""

    def deliver(self, request: OrderingRequest, **wish: str) -> Order:
        book = partners.book_courier

        def cancelling(address: str, reference: str, **options: Any) -> partners.Reply:
            Order.objects.filter(ticket=reference).update(status=Status.CANCELLED)
            return book(address, reference, **options)

        with patch.object(partners, "book_courier", cancelling):
            return super().deliver(request, **wish)


def _version(view: type[DeliveryView]) -> Version:
    return Version(
        [
            path("", include("testproject.shop.urls")),
            path("api/deliveries/", view.as_view()),
            path("api/deliveries/later/", DeliveryLaterView.as_view()),
            path("api/", include("django_idempotency.api_urls")),
        ]
    )


VERSIONS = {
    "first": _version(DeliveryView),
    "second": _version(SecondView),
    "unreconciled": _version(UnreconciledView),
    "withdrawn": _version(WithdrawnView),
}
