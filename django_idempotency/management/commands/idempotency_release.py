"""``manage.py idempotency_release``: free a key whose owner is dead."""

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_idempotency.http.keys import record_id
from django_idempotency.maintenance.records import Released, release
from django_idempotency.management.base import RecordsCommand, name
from django_idempotency.storage.upkeep import Upkeep

_CODES = {Released.GONE: 3, Released.FINISHED: 4, Released.TRUSTED: 5, Released.ALIVE: 6}


class Command(RecordsCommand):
    """Releases by one guarded statement, so that a live owner always keeps its key."""

    help = (
        "Releases an idempotency record that is in progress although its owner is dead: the next"
        " request with its key runs, without waiting for the lease."
    )
    codes = {
        1: "an error",
        3: "there is no such record",
        4: "it is not in progress",
        5: "no row lock vouches for its claim, and its lease is not over",
        6: "its owner lives, or began just now",
    }

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("key", metavar="KEY", type=name, help="as the client sent it")
        parser.add_argument(
            "--scope", required=True, type=name, help="whose key: user:5, anonymous, ..."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        record = record_id(options["scope"], options["key"])
        done = release(Upkeep(options["database"]), record, dry_run=options["dry_run"])
        if done is Released.DONE and options["dry_run"]:
            text = "Its owner seems dead: it would be released."
        else:
            text = str(done.label)
        failed = done is not Released.DONE
        if options["format"] == "json" or not failed:
            self.answer(text, options, result=done.value, reason=text, dry_run=options["dry_run"])
        if failed:
            raise CommandError(text, returncode=_CODES[done])
