"""The order book in the admin."""

from typing import TYPE_CHECKING

from django.contrib import admin

from .models import Order

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Order]
else:
    _ModelAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(_ModelAdmin):
    """Orders, the latest first."""

    list_display = ["id", "cake", "icing", "origin", "status", "customer", "created_at"]
    list_filter = ["origin", "status", "cake"]
    list_select_related = ["customer"]
    search_fields = ["icing", "ticket"]
    readonly_fields = ["ticket", "visitor", "created_at"]
