"""The records in Django's admin: look, search, expire, release, delete.

Nothing here changes a record by itself: :mod:`django_idempotency.maintenance` does, statement by
guarded statement. What is done, and whose response is looked at, stands in the admin's log.
"""

from .dashboard import DashboardAdmin
from .records import IdempotencyRecordAdmin

__all__ = ["DashboardAdmin", "IdempotencyRecordAdmin"]
