"""The one row that a request writes."""

from typing import ClassVar

from django.db import models


class Order(models.Model):
    """Some cakes, as the customer asked for them."""

    nonce = models.CharField(max_length=32)
    customer = models.CharField(max_length=100)
    cakes = models.PositiveIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager["Order"]] = models.Manager()

    class Meta:
        app_label = "orders"

    def __str__(self) -> str:
        return self.nonce
