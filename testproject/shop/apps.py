"""The shop as Django knows it."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Cakes, and the orders for them."""

    name = "testproject.shop"
    verbose_name = "Cake shop"
