"""``manage.py idempotency_erase``: erase the contents of one caller's records."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_idempotency import conf
from django_idempotency.maintenance.cleanup import NotInvalidatedError, erase
from django_idempotency.management.base import RecordsCommand, duration, name, positive
from django_idempotency.models import IdempotencyRecord, Status
from django_idempotency.storage.upkeep import Upkeep


class Command(RecordsCommand):
    """Works in batches and skips locked records; reads the whole table, as scope has no index."""

    help = (
        "Erases the responses, keys and paths of one caller's idempotency records. Nothing is left"
        " but that a key was used, and it is refused with 410 until its retention is over. Records"
        " in progress are left: run it again later. Reads the whole table."
    )
    codes = {
        1: "records are left, in progress or held: run it again later; or an error",
        4: "erased, but the replay cache has not confirmed it",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--scope", required=True, type=name, help="whose records: user:5, anonymous, ..."
        )
        parser.add_argument(
            "--forget",
            action="store_true",
            help="delete the records: a used key that comes again runs anew",
        )
        parser.add_argument(
            "--batch-size",
            type=positive,
            default=1000,
            metavar="N",
            help="rows a statement; default: 1000",
        )
        parser.add_argument(
            "--sleep", type=duration, default="0", metavar="TIME", help="a pause after each batch"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        records = IdempotencyRecord.objects.using(options["database"]).filter(
            scope=options["scope"]
        )
        if options["dry_run"]:
            erased = records.exclude(status=Status.IN_PROGRESS).count()
            left = records.filter(status=Status.IN_PROGRESS).count()
        else:
            chosen = {name: options[name] for name in ("forget", "batch_size", "sleep")}
            try:
                erased = erase(Upkeep(options["database"]), options["scope"], **chosen)
            except NotInvalidatedError as error:
                raise CommandError(
                    f"{error.erased} records erased, but the replay cache has not confirmed it: it"
                    f" may answer in their stead for {conf.cache_max_age()} at most.",
                    returncode=4,
                ) from error
            left = records.count()
        text = f"{erased} records {'to erase' if options['dry_run'] else 'erased'}."
        self.answer(text, options, erased=erased, left=left, dry_run=options["dry_run"])
        if left:
            raise CommandError(f"{left} records are in progress or held: run it again later.")
