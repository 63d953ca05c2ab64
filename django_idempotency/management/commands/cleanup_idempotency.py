"""``manage.py cleanup_idempotency``: delete expired records."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from django_idempotency.maintenance.cleanup import Sweep, Swept, clean_up
from django_idempotency.management import progress
from django_idempotency.management.base import RecordsCommand, duration, positive
from django_idempotency.models import IdempotencyRecord, RecordQuerySet, UtcNow
from django_idempotency.storage.upkeep import Upkeep


class Command(RecordsCommand):
    """Deletes in batches, so that no lock is held for long; safe beside requests and itself."""

    help = "Deletes expired idempotency records, in batches. Records in progress are never touched."
    codes = {1: "an error"}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        defaults = Sweep()
        parser.add_argument(
            "--batch-size",
            type=positive,
            default=defaults.batch_size,
            metavar="N",
            help=f"rows a statement; default: {defaults.batch_size}",
        )
        parser.add_argument("--limit", type=positive, metavar="N", help="stop after so many rows")
        parser.add_argument(
            "--older-than",
            type=duration,
            default=defaults.older_than,
            metavar="TIME",
            help="only what expired at least so long ago: 90s, 15m, 12h, 7d",
        )
        parser.add_argument(
            "--sleep",
            type=duration,
            default=defaults.sleep,
            metavar="TIME",
            help="a pause between two batches, in seconds if no unit is given; default: a sixth"
            " of what the last one took",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        sweep = Sweep(**{name: options[name] for name in Sweep.__slots__})
        records = IdempotencyRecord.objects.using(options["database"])
        if options["dry_run"]:
            swept = _would_sweep(records, sweep)
        else:
            with self._progress(records, sweep, options) as advance:
                swept = clean_up(Upkeep(options["database"]), sweep, advance)
        text = f"{swept.deleted} expired records"
        text += " to delete." if options["dry_run"] else " deleted."
        if swept.abandoned:
            text += f"\n{swept.abandoned} abandoned in progress, and left alone."
        self.answer(text, options, **asdict(swept), dry_run=options["dry_run"])

    def _progress(
        self, records: RecordQuerySet, sweep: Sweep, options: Mapping[str, Any]
    ) -> AbstractContextManager[Callable[[int], object]]:
        if options["verbosity"] and options["format"] == "text" and progress.has_bar():
            return progress.bar(_would_sweep(records, sweep).deleted)
        if options["verbosity"] > 1:
            return nullcontext(progress.lines(self.stderr.write))
        return nullcontext(lambda deleted: None)


def _would_sweep(records: RecordQuerySet, sweep: Sweep) -> Swept:
    old = {"expires_at__lte": UtcNow() - sweep.older_than}
    deleted = records.expired().filter(**old)[: sweep.limit].count()
    return Swept(deleted, records.stale().filter(**old).count())
