"""What the provider does for a shop."""

from django.db.models import TextChoices


class Service(TextChoices):
    """The services; the value is where a shop asks for one."""

    CHARGES = "charges", "Charge"
    REFUNDS = "refunds", "Refund"
    PICKUPS = "pickups", "Pickup by the courier"
    CANCELLATIONS = "cancellations", "Cancellation of a pickup"
    RECEIPTS = "receipts", "Receipt by mail"
