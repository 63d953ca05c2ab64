"""The order book in the admin."""

from django.contrib import admin

from .models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin[Order]):
    """Orders, the latest first."""

    list_display = ["id", "cake", "icing", "origin", "status", "customer", "created_at"]
    list_filter = ["origin", "status", "cake"]
    list_select_related = ["customer"]
    search_fields = ["icing", "ticket"]
    readonly_fields = ["ticket", "visitor", "created_at"]
