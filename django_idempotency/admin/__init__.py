"""The records and the dashboard in Django's admin.

Only :mod:`django_idempotency.maintenance` and the completer change records, by guarded statements.
The admin's log says who did what, and who looked at a stored response.
"""

from .dashboard import DashboardAdmin
from .records import IdempotencyRecordAdmin

__all__ = ["DashboardAdmin", "IdempotencyRecordAdmin"]
