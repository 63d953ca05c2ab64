"""A router that keeps records in a database of their own."""

from typing import Any


class Apart:
    """Sends the package's models to the other database, which has the tables as well."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "django_idempotency" else None

    db_for_write = db_for_read
