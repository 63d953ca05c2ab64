"""What the test views write: orders, and deliveries whose foreign key is checked at COMMIT."""

from django.db import models


class Order(models.Model):
    """An order of one cake."""

    nonce = models.CharField(max_length=32)


class Delivery(models.Model):
    """A delivery without an order makes the COMMIT fail: Django's foreign keys are deferred."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
