"""The order book. An order is a cake on its way; two orders are two cakes."""

import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from .cakes import Cake

# More letters than this do not fit on a cake.
ICING_LENGTH = 40


class Origin(models.TextChoices):
    """The door an order came in by."""

    SHOP = "shop", "Order page"
    WITHOUT_KEY = "tunnel-without-key", "Tunnel, without a key"
    WITH_KEY = "tunnel-with-key", "Tunnel, with a key"
    API = "api", "API"


class Status(models.TextChoices):
    """What became of an order."""

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

    def cancel(self, order: "Order") -> bool:
        """Whether the order was still on the way and is now cancelled."""
        return bool(self.on_the_way().filter(pk=order.pk).update(status=Status.CANCELLED))


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

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"No. {self.pk}: {self.get_cake_display()} for {self.icing}"

    def get_absolute_url(self) -> str:
        """The page only who knows the ticket can find."""
        return reverse("shop:order", args=[self.ticket])
