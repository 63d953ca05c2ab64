"""What protection costs: ours beside every Django peer's, on each database, in one process each.

``python -m benchmarks.views`` starts the servers, and a worker for each contestant in an
environment of its own. They take turns in short blocks, in an order that changes: bare requests,
fresh keys, replays, and duplicates of a request that still runs. Each is compared with the bare
view of the same environment. Exits 1 if an answer of ours was not what it should be.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks import harness, servers
from benchmarks.environments import UnusableError, python_of, versions
from benchmarks.processes import Process, worker
from benchmarks.sites.contestants import CONTESTANTS, DATABASES, Contestant
from tests.support.servers import ServerUnavailableError

#: What the others are compared with comes first.
BARE, *PROTECTED = KINDS = ("bare", "fresh", "replay", "conflict")
#: Requests of one turn, and of those before the ones that count.
BLOCK, WARM = 10, 30


@dataclass
class Place:
    """A contestant's process, and what came from it for each kind."""

    contestant: Contestant
    process: Process
    seconds: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    #: Why a kind is no longer measured, and what was odd about its replies.
    wrong: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)

    def block(self, kind: str, count: int, *, counts: bool) -> None:
        """One turn; after a wrong answer the kind has no other."""
        if kind in self.wrong:
            return
        answer = self.process.ask(kind, count)
        if answer["wrong"]:
            self.wrong[kind] = answer["wrong"]
        elif counts:
            self.seconds.setdefault(kind, []).extend(answer["seconds"])
        if answer["remark"]:
            self.remarks[kind] = answer["remark"]

    def turn(self, number: int) -> None:
        """A block of each kind; the first turn only warms up."""
        for kind in random.sample(KINDS, len(KINDS)):
            self.block(kind, BLOCK if number else WARM, counts=number > 0)

    def count(self) -> None:
        """Count what a request of each kind sends."""
        for kind in KINDS:
            if kind not in self.wrong:
                self.sent[kind] = self.process.ask("sent", kind)

    def figures(self) -> dict[str, Any]:
        """All of it, for the table and the plots; times in milliseconds."""
        kinds = {kind: self._figures_of(kind) for kind in KINDS}
        return {"one_effect": self.contestant.one_effect, "kinds": kinds}

    def _figures_of(self, kind: str) -> dict[str, Any]:
        if kind in self.wrong or BARE not in self.seconds:
            return {"wrong": self.wrong.get(kind, "no bare view")}
        found = {**self.sent[kind], "remark": self.remarks.get(kind, "")}
        for clock, name in enumerate(("wall", "cpu")):
            values = [times[clock] for times in self.seconds[kind]]
            base = [times[clock] for times in self.seconds[BARE]]
            found[f"{name}_ms"] = harness.milliseconds(values)
            found[f"{name}_ratio"] = harness.ratio(values, base)
        return found


def leave_out(contestant: Contestant, error: UnusableError) -> None:
    """Say so; without one of ours the rest is worth nothing."""
    if contestant.is_ours:
        raise error
    print(f"NOT MEASURED: {contestant.name}: {error}")


@contextmanager
def places(kind: str, address: str) -> Iterator[list[Place]]:
    """A worker of each contestant that supports this database, and can be started."""
    with ExitStack() as running:
        found = []
        for contestant in CONTESTANTS.values():
            if kind not in contestant.databases:
                continue
            try:
                process = running.enter_context(worker(contestant, address))
            except UnusableError as error:
                leave_out(contestant, error)
            else:
                found.append(Place(contestant, process))
        yield found


def take_turns(found: Sequence[Place], rounds: int) -> list[Place]:
    """Measure all; returns those that did not fail meanwhile."""
    left = list(found)
    for number in range(rounds + 1):
        for place in random.sample(left, len(left)):
            try:
                place.turn(number)
                if number == rounds:
                    place.count()
            except UnusableError as error:
                leave_out(place.contestant, error)
                left.remove(place)
    return [place for place in found if place in left]


def row(name: str, figures: Mapping[str, Any], kind: str) -> list[Any]:
    """A line of a kind's table."""
    own = figures["kinds"][kind]
    once = "yes" if figures["one_effect"] else "no"
    if "wrong" in own:
        return [name, once, "-", own["wrong"]]
    sent = f"{own['statements']}+{own['commands']}" if own["commands"] else own["statements"]
    ratios = [own["wall_ratio"], own["cpu_ratio"], own["remark"]] if kind != BARE else []
    return [name, once, sent, own["wall_ms"], own["cpu_ms"], *ratios]


def show(database: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """A table for each kind of request, the cheapest first."""

    def cost(name: str) -> float:
        own = found[name]["kinds"][kind]
        return float("inf") if "wrong" in own else float(own["wall_ratio"].median)

    for kind in KINDS:
        ratios = [] if kind == BARE else ["ratio to bare", "ratio of CPU", ""]
        heads = [f"{database}: {kind}", "once", "sent", "ms", "CPU ms", *ratios]
        harness.print_table(
            heads, [row(name, found[name], kind) for name in sorted(found, key=cost)]
        )


def measure_on(kind: str, rounds: int) -> dict[str, Any]:
    """The figures of one database, none where its server cannot be had."""
    print()
    try:
        with servers.database(kind) as address, places(kind, address) as contestants:
            left = take_turns(contestants, rounds)
            found = {place.contestant.name: place.figures() for place in left}
    except ServerUnavailableError as error:
        print(f"NOT MEASURED: {error}")
        return {}
    show(kind, found)
    return found


def is_right(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all of ours answered what they should."""
    ours = [name for name in found if CONTESTANTS[name].is_ours]
    return not any("wrong" in kind for name in ours for kind in found[name]["kinds"].values())


def measure(rounds: int = 40) -> harness.Outcome:
    """Each database; ``rounds`` are blocks of each kind."""
    print(versions(python_of(CONTESTANTS["ours"])))
    with servers.redis():
        figures = {kind: measure_on(kind, rounds) for kind in DATABASES}
    return harness.Outcome(all(map(is_right, figures.values())), figures)


if __name__ == "__main__":
    harness.main(measure)
