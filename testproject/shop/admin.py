"""The order book in the admin."""

from typing import TYPE_CHECKING

from django.contrib import admin

from .models import Order, Receipt

if TYPE_CHECKING:
    _OrderAdmin = admin.ModelAdmin[Order]
    _ReceiptAdmin = admin.ModelAdmin[Receipt]
else:
    _OrderAdmin = _ReceiptAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(_OrderAdmin):
    """Orders, the latest first."""

    list_display = ["id", "cake", "icing", "origin", "status", "customer", "created_at"]
    list_filter = ["origin", "status", "cake"]
    list_select_related = ["customer"]
    search_fields = ["icing", "ticket"]
    readonly_fields = [
        *("ticket", "visitor", "created_at"),
        *("price", "charge", "pickup", "paid_at"),
    ]


@admin.register(Receipt)
class ReceiptAdmin(_ReceiptAdmin):
    """The outbox, the latest first."""

    list_display = ["id", "order", "recipient", "mail", "created_at"]
    list_select_related = ["order"]
    raw_id_fields = ["order"]
    readonly_fields = ["mail", "created_at"]
