"""The provider as Django knows it."""

from django.apps import AppConfig


class ProviderConfig(AppConfig):
    """Charges, refunds, pickups, their cancellations, and receipts."""

    name = "testproject.provider"
    verbose_name = "Provider"
