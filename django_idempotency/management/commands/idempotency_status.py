"""``manage.py idempotency_status``: figures of the records, for people and for monitoring."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from django_idempotency.management.base import RecordsCommand, positive
from django_idempotency.monitoring.figures import Figures, figures

_LABELS = {
    "in_progress": "in progress",
    "completed": "completed",
    "released": "released",
    "stale": "in progress, lease over",
    "oldest_in_progress": "in progress since",
    "expired": "expired, not cleaned up",
    "next_expiry": "next expires in",
    "table_bytes": "table with indexes",
}


class Command(RecordsCommand):
    """Shows the figures of :mod:`django_idempotency.monitoring.figures` for one database."""

    help = (
        "Shows how many idempotency records there are, how old they are, and what happened to keys."
        " Figures marked with ~ are estimates, or were counted among the first million to expire"
        " only."
    )
    codes = {1: "as many stale records as --fail-if-stale says, or an error"}
    changes = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--exact", action="store_true", help="count everything, however long it takes"
        )
        parser.add_argument(
            "--fail-if-stale",
            type=positive,
            metavar="N",
            help="exit with 1 if N records or more are in progress although their lease is over",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        found = figures(options["database"], exact=options["exact"])
        facts = {name: _plain(value) for name, value in asdict(found).items()}
        self.answer("\n".join(_lines(found)), options, **facts)
        most = options["fail_if_stale"]
        if most is not None and found.stale >= most:
            raise CommandError(f"{found.stale} records are stale.", returncode=1)


def _plain(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _lines(found: Figures) -> Iterator[str]:
    for name, label in _LABELS.items():
        mark = "~" if name in found.estimates else " "
        yield f"{label:24} {mark}{_words(name, getattr(found, name))}"
    if found.events:
        yield f"\n{'event':12} {'hour':>10} {'day':>10} {'week':>10}"
    for event, counts in found.events.items():
        yield f"{event:12} {counts.hour:10} {counts.day:10} {counts.week:10}"


def _words(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, timedelta):
        return str(timedelta(seconds=round(value.total_seconds())))
    return filesizeformat(value).replace("\xa0", " ") if name == "table_bytes" else str(value)
