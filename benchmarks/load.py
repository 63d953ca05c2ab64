"""How many requests a second a site answers with each contestant's protection, and without.

``python -m benchmarks.load`` starts PostgreSQL, Valkey and every contestant's site, 2 workers with
4 threads, and lets wrk send bare requests, fresh keys and replays over 8 and over 32 connections,
in short slices that take turns in an order that changes. Each contestant is compared with the bare
view of its own site. Exits 1 if one of our own answers was not what it should be.
"""

import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from benchmarks import harness, servers, wrk
from benchmarks.environments import UnusableError, python_of, versions
from benchmarks.sites.contestants import CONTESTANTS
from benchmarks.sites.orders.request import BARE_PATH, BODY, HEADER, PATH

#: What the others are compared with comes first.
BARE, FRESH, REPLAY = KINDS = ("bare", "fresh", "replay")
#: wrk does not wait for the requests that it has sent when its time is over.
SETTLED_SECONDS = 0.5


@dataclass
class Target:
    """One contestant's site, and what wrk got from it for each number of connections and kind."""

    site: servers.Site
    slices: dict[tuple[int, str], list[wrk.Answers]] = field(default_factory=dict)
    #: Orders that the replays of so many connections have left.
    again: Counter[int] = field(default_factory=Counter)
    #: Of its replays: the same in each slice.
    seed: int = field(default_factory=lambda: random.randrange(1 << 30))

    def send(self, connections: int, kind: str, seconds: float) -> wrk.Answers:
        """One slice."""
        return wrk.send(
            self.site.url + (BARE_PATH if kind == BARE else PATH),
            connections=connections,
            seconds=seconds,
            kind=kind,
            seed=self.seed if kind == REPLAY else random.randrange(1 << 30),
            header=HEADER,
            body=BODY.decode(),
        )

    def measure(self, connections: int, kind: str, seconds: float) -> None:
        """One slice that counts."""
        kept = self.slices.setdefault((connections, kind), [])
        # Right replies are not enough: the view may have run again.
        before = self.settled_count() if kind == REPLAY else 0
        kept.append(self.send(connections, kind, seconds))
        if kind == REPLAY:
            self.again[connections] += self.site.count() - before

    def settled_count(self) -> int:
        """How many orders there are when the last requests of the slice before are done."""
        time.sleep(SETTLED_SECONDS)
        return self.site.count()

    def warm_up(self, connections: int) -> None:
        """Compile, connect, and give each key that is replayed its first request."""
        for kind in KINDS:
            self.send(connections, kind, 1)

    def wrong(self, connections: int, kind: str) -> dict[str, int]:
        """Answers that are not 201; replays that are not the first answer, or ran the view."""
        found: Counter[str] = Counter()
        for answers in self.slices[connections, kind]:
            found.update(answers.others("201"))
            if kind == REPLAY:
                # The first of each connection, which has a thread of its own, repeats nothing.
                found["changed"] += max(0, answers.count - answers.repeated - connections)
        if kind == REPLAY:
            found["run again"] = self.again[connections]
        return {name: count for name, count in found.items() if count}

    def figures(self, connections: int, kind: str) -> dict[str, Any]:
        """Of all slices: orders done a second, beside the bare ones too, and seconds of one."""
        slices, base = self.slices[connections, kind], self.slices[connections, BARE]
        rates, bare = [each.rate("201") for each in slices], [each.rate("201") for each in base]
        return {
            "answers": sum(each.count for each in slices),
            "rate": harness.spread(rates),
            "ratio": harness.ratio(rates, bare),
            "p50": harness.spread([each.p50 for each in slices]),
            "p99": harness.spread([each.p99 for each in slices]),
            "wrong": self.wrong(connections, kind),
        }


def start_all(stack: ExitStack, address: str, connections: int) -> list[Target]:
    """Those that can be started, warmed up; says which cannot."""
    targets = []
    for name in CONTESTANTS:
        try:
            target = Target(stack.enter_context(servers.site(name, address)))
        except UnusableError as error:
            print(f"NOT MEASURED: {name}: {error}")
        else:
            target.warm_up(connections)
            targets.append(target)
    return targets


def take_turns(
    targets: Sequence[Target], slices: int, seconds: float, connections: Sequence[int]
) -> None:
    """Send all slices."""
    for number in range(slices):
        turns = list(product(targets, connections, KINDS))
        random.shuffle(turns)
        for target, count, kind in turns:
            target.measure(count, kind, seconds)
        print(f"{number + 1} of {slices} rounds", file=sys.stderr)


def show(found: Mapping[str, Mapping[str, Any]], connections: int) -> None:
    """A table."""
    heads = ["kind", "orders a second", "of bare", "p50 ms", "p99 ms", ""]
    rows = []
    for name, kinds in found.items():
        for kind, its in kinds.items():
            wrong = ", ".join(f"{count} x {what}" for what, count in its["wrong"].items())
            times = [f"{its[part].median * 1000:.1f}" for part in ("p50", "p99")]
            rows.append([name, kind, f"{its['rate'].median:,.0f}", its["ratio"], *times, wrong])
    harness.print_table([f"{connections} connections", *heads], rows)


def measure(
    slices: int = 5, seconds: float = 3.0, connections: tuple[int, ...] = (8, 32)
) -> harness.Outcome:
    """All contestants: so many slices of each kind, of so many seconds."""
    print(versions(python_of(CONTESTANTS["ours"])))
    print(f"gunicorn, 2 workers x 4 threads; {wrk.version()}")
    with servers.database("postgresql") as address, servers.redis(), ExitStack() as stack:
        targets = start_all(stack, address, max(connections))
        take_turns(targets, slices, seconds, connections)
    found = {
        str(count): {
            target.site.contestant.name: {kind: target.figures(count, kind) for kind in KINDS}
            for target in targets
        }
        for count in connections
    }
    for count in connections:
        show(found[str(count)], count)
    ours = [target for target in targets if target.site.contestant.is_ours]
    wrong = [each.wrong(count, kind) for each in ours for count in connections for kind in KINDS]
    return harness.Outcome(not any(wrong), found)


if __name__ == "__main__":
    harness.main(measure)
