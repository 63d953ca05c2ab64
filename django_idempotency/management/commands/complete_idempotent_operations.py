"""``manage.py complete_idempotent_operations``: finish operations that clients have left."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from types import FrameType
from typing import Any

from django.core.management.base import CommandParser
from django.db import InterfaceError, OperationalError, connections

from django_idempotency.durable.completer import BATCH_SIZE, Completed, Completion, complete_due
from django_idempotency.management.base import RecordsCommand, duration, positive
from django_idempotency.models import IdempotencyEnvelope, UtcNow

_LEFT = (Completion.PENDING, Completion.GIVEN_UP)


class Command(RecordsCommand):
    """Finishes what is due, once or in a loop until a signal; several may run at once."""

    help = (
        "Finishes operations of views with keep_request whose clients do not come back: their"
        " requests are made once more, and go on after the last recorded step."
    )
    codes = {1: "an operation was given up, or an error"}

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--loop", action="store_true", help="go on until SIGTERM or SIGINT")
        parser.add_argument(
            "--interval",
            type=duration,
            default=timedelta(seconds=1),
            metavar="TIME",
            help="with --loop: the pause when nothing is due; default: 1s",
        )
        parser.add_argument(
            "--limit",
            type=positive,
            default=BATCH_SIZE,
            metavar="N",
            help=f"operations at most, in one go; default: {BATCH_SIZE}",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["dry_run"]:
            self._count(options)
            return
        counts: Counter[Completion] = Counter()
        for done in self._taken_up(options):
            counts[done.completion] += 1
            self._tell(done, options)
        facts = {completion.value: counts[completion] for completion in Completion}
        told = [f"{count} {name.replace('_', ' ')}" for name, count in facts.items() if count]
        self.answer(", ".join(told) or "Nothing is due.", options, **facts, dry_run=False)
        if counts[Completion.GIVEN_UP]:
            self.stderr.write("Operations that were given up wait for a person, in the admin.")
            raise SystemExit(1)

    def _count(self, options: dict[str, Any]) -> None:
        rows = IdempotencyEnvelope.objects.using(options["database"])
        due = rows.filter(due_at__lte=UtcNow())[: options["limit"]].count()
        self.answer(f"{due} operations are due.", options, due=due, dry_run=True)

    def _taken_up(self, options: dict[str, Any]) -> Iterator[Completed]:
        if not options["loop"]:
            yield from complete_due(options["database"], options["limit"])
            return
        # On a signal, the operation that is running is finished first.
        stop = threading.Event()

        def _stop(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _stop)
        while not stop.is_set():
            is_idle = True
            for done in self._due(options):
                is_idle = False
                yield done
                if stop.is_set():
                    return
            if is_idle:
                stop.wait(options["interval"].total_seconds())

    def _due(self, options: dict[str, Any]) -> Iterator[Completed]:
        """Finish what is due; report a database that cannot be reached, and go on with the loop."""
        try:
            yield from complete_due(options["database"], options["limit"])
        except (OperationalError, InterfaceError) as error:
            self.stderr.write(f"The database cannot be reached: {error}")
            connections[options["database"]].close()

    def _tell(self, done: Completed, options: dict[str, Any]) -> None:
        if options["format"] == "text" and (options["verbosity"] > 1 or done.completion in _LEFT):
            error = f": {done.error}" if done.error else ""
            self.stdout.write(f"{done.record_id} {done.completion.value}{error}")
