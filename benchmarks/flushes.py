"""What a request costs where PostgreSQL's disk is slower than on this machine.

``python -m benchmarks.flushes`` compares requests with the bare view where PostgreSQL sleeps before
each flush that a client waits for (``commit_delay``).
"""

import uuid
from collections.abc import Mapping
from typing import Any

from benchmarks import servers
from benchmarks.harness import Ask, Outcome, compared, main, print_table, timed

BARE, FRESH, REPLAY = ("bare", "fresh", "replay")
#: Rounds before those that count.
WARM = 20
#: Milliseconds that each flush takes longer.
DELAYS = (0, 1, 3)


class Requests:
    """The site of this process, which gets one request of each kind in turn."""

    def __init__(self) -> None:
        from benchmarks.sites.caller import Site

        self._site = Site()
        self._known = str(uuid.uuid4())
        self._ask(self._known)
        self.compared(WARM)

    def compared(self, rounds: int) -> dict[str, Any]:
        """The times of each kind."""
        kinds: dict[str, Ask] = {
            BARE: lambda: self._ask(None),
            FRESH: lambda: self._ask(str(uuid.uuid4())),
            REPLAY: lambda: self._ask(self._known),
        }
        return compared(timed(kinds, rounds), BARE)

    def _ask(self, key: str | None) -> float:
        reply = self._site.ask(key)
        if reply.status != 201:
            raise RuntimeError(f"{reply.status}: {reply.body!r}")
        return reply.wall


def measure_here(rounds: int) -> dict[str, Any]:
    """The times for each delay of a flush, on the database of this process."""
    from django.db import connection

    requests, found = Requests(), {}
    for delay in DELAYS:
        with connection.cursor() as cursor:
            cursor.execute(f"SET commit_siblings = 0; SET commit_delay = {delay * 1000}")
        found[f"flush + {delay} ms" if delay else "as it is"] = requests.compared(rounds)
    return found


def show(title: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of medians and ratios."""
    rows = [[kind, its["ms"], its["ratio"] if kind != BARE else ""] for kind, its in found.items()]
    print_table([title, "ms", "ratio to bare"], rows)


def measure(rounds: int = 400) -> Outcome:
    """So many requests of each kind."""
    with servers.database("postgresql") as address:
        figures = servers.apart(measure_here, address, rounds)
    for title, found in figures.items():
        show(title, found)
    return Outcome(is_right=True, figures=figures)


if __name__ == "__main__":
    main(measure, "djangorestframework", "psycopg")
