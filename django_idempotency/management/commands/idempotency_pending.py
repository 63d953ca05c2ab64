"""``manage.py idempotency_pending``: list unfinished operations by the step they stand at."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_idempotency.management.base import RecordsCommand
from django_idempotency.monitoring.pending import Pending, pending

_HEAD = ("after step", "at step", "operations", "given up", "client's", "oldest")


class Command(RecordsCommand):
    """Lists unfinished operations by step; ``--check`` makes it a gate for deployments."""

    help = (
        "Lists unfinished operations by the step they stand at. They go on with the code that is"
        " there then: a deployment must keep the names of their steps, or give them as aliases."
    )
    codes = {1: "with --check: an operation is not finished; or an error"}
    changes = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--check", action="store_true", help="exit with 1 if any operation is not finished"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        found = pending(options["database"])
        places = [{**asdict(place), "age": place.age.total_seconds()} for place in found]
        self.answer("\n".join(_lines(found)), options, pending=places)
        total = sum(place.count for place in found)
        if options["check"] and total:
            raise CommandError(f"{total} operations are not finished.", returncode=1)


def _lines(places: list[Pending]) -> Iterator[str]:
    if not places:
        yield "No operation is unfinished."
        return
    rows = [_HEAD, *map(_row, places)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        texts = [text.ljust(width) for text, width in zip(row[:2], widths[:2], strict=True)]
        figures = [text.rjust(width) for text, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join([*texts, *figures])


def _row(place: Pending) -> tuple[str, ...]:
    at = f"{place.at} ({place.status})" if place.at else "-"
    age = str(timedelta(seconds=round(place.age.total_seconds())))
    figures = (place.count, place.given_up, place.clients)
    return (place.after or "-", at, *map(str, figures), age)
