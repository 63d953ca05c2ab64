"""``manage.py cleanup_idempotency``: delete the records that answer no more."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections, router

from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import Store


class Command(BaseCommand):
    """Deletes in batches, so that no lock is held for long; safe beside requests and itself."""

    help = "Deletes expired idempotency records, in batches."

    def add_arguments(self, parser: CommandParser) -> None:
        """Database and batch size."""
        parser.add_argument("--database", default=router.db_for_write(IdempotencyRecord))
        parser.add_argument("--batch-size", type=int, default=1000, help="rows a statement")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete until a batch is not full."""
        if options["database"] not in connections:
            raise CommandError(f"There is no database {options['database']!r}.")
        if options["batch_size"] < 1:
            raise CommandError("--batch-size is a whole number from 1.")
        store = Store(options["database"])
        deleted = batch = options["batch_size"]
        total = 0
        while deleted == batch:
            deleted = store.purge(batch)
            total += deleted
        self.stdout.write(self.style.SUCCESS(f"{total} expired records deleted."))
