"""What the test views write: orders, and deliveries whose foreign key is checked at COMMIT."""

from django.db import models


class Order(models.Model):
    """One cake on the way."""

    nonce = models.CharField(max_length=32)


class Delivery(models.Model):
    """Django's foreign keys are deferred: a delivery for no order fails the COMMIT."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
