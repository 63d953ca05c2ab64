"""The order book. An order is a cake on its way; two orders are two cakes."""

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone

from .cakes import Cake

# More letters than this do not fit on a cake, or on an envelope.
ICING_LENGTH = 40
ADDRESS_LENGTH = 200


class Origin(models.TextChoices):
    """The door an order came in by."""

    SHOP = "shop", "Order page"
    WITHOUT_KEY = "tunnel-without-key", "Tunnel, without a key"
    WITH_KEY = "tunnel-with-key", "Tunnel, with a key"
    API = "api", "API"
    DELIVERY = "delivery", "API, to the door"


class Status(models.TextChoices):
    """What became of an order."""

    # To be brought to a door, and not yet paid.
    ORDERED = "ordered", "Ordered"
    ON_THE_WAY = "on-the-way", "On the way"
    CANCELLED = "cancelled", "Cancelled"


class OrderQuerySet(models.QuerySet["Order"]):
    """The questions the shop asks its order book."""

    def on_the_way(self) -> Self:
        """Orders that end with a cake at somebody's door."""
        return self.filter(status=Status.ON_THE_WAY)

    def of_visitor(self, visitor: uuid.UUID) -> Self:
        """Orders from one browser, logged in or not."""
        return self.filter(visitor=visitor)

    def from_door(self, *origins: Origin) -> Self:
        """Orders that came in by one of these doors."""
        return self.filter(origin__in=origins)

    def cancel(self, pk: int) -> bool:
        """Whether the order could still be cancelled, and now is; what is paid cannot."""
        live = self.exclude(status=Status.CANCELLED).filter(pk=pk, paid_at=None)
        return bool(live.update(status=Status.CANCELLED))

    def pay(self, pk: int, charge: str, pickup: str) -> bool:
        """Whether an order for a door was not cancelled meanwhile, and now is on the way."""
        paid = {"charge": charge, "pickup": pickup, "paid_at": timezone.now()}
        ordered = self.filter(pk=pk, status=Status.ORDERED)
        return bool(ordered.update(status=Status.ON_THE_WAY, **paid))

    def unpay(self, pk: int) -> None:
        """Make an order for a door one that was never paid."""
        unpaid = dict.fromkeys(("charge", "pickup", "paid_at"))
        self.filter(pk=pk).update(status=Status.ORDERED, **unpaid)


class Order(models.Model):
    """One cake for one person."""

    cake = models.CharField(max_length=20, choices=Cake)
    icing = models.CharField("name in icing", max_length=ICING_LENGTH)
    # Drawn anew by each run of a view: two runs can never look like a run and its replay.
    ticket = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    origin = models.CharField(max_length=20, choices=Origin)
    status = models.CharField(max_length=20, choices=Status, default=Status.ON_THE_WAY)
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="orders", null=True, blank=True
    )
    visitor = models.UUIDField(null=True, blank=True, db_index=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    # Of those that are brought to a door: where to, the price in cents, and by what names the
    # partners know the charge and the pickup.
    address = models.CharField(max_length=ADDRESS_LENGTH, blank=True)
    price = models.PositiveIntegerField(null=True, blank=True, editable=False)
    charge = models.UUIDField(null=True, blank=True, editable=False)
    pickup = models.UUIDField(null=True, blank=True, editable=False)
    paid_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"No. {self.pk}: {self.get_cake_display()} for {self.icing}"

    def get_absolute_url(self) -> str:
        """The page only who knows the ticket can find."""
        return reverse("shop:order", args=[self.ticket])

    @property
    def euros(self) -> str:
        """The price for people."""
        return f"{(self.price or 0) / 100:.2f} €"


class Receipt(models.Model):
    """The outbox: a receipt that is to be sent, written in one transaction with the payment."""

    # No constraint refuses a second one: it would be seen.
    order = models.ForeignKey(Order, models.CASCADE, related_name="receipts")
    recipient = models.CharField(max_length=254)
    # What the mail calls it; empty until it says that it was sent.
    mail = models.UUIDField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"No. {self.order_id} to {self.recipient}"
