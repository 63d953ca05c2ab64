"""What protection costs: ours beside every Django peer's, on each database, in one process each.

``python -m benchmarks.views`` starts the servers and a worker for each contestant in his own
environment. They take turns in short blocks, in an order that changes: bare requests, fresh keys,
replays, and duplicates of a request that still runs. Each is compared with the bare view of his own
environment. Exits 1 if an answer of ours was not what it should be.
"""

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.environments import UnusableError
from benchmarks.figures import circumstances, ratio, save, spread
from benchmarks.processes import Process
from benchmarks.sites.contestants import CONTESTANTS, DATABASES, Contestant
from benchmarks.stores import database, redis
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
    #: Why a kind is measured no more, and what was odd about its replies.
    wrong: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)

    def block(self, kind: str, count: int, *, counts: bool = True) -> None:
        """One turn; a wrong answer is the kind's last."""
        if kind in self.wrong:
            return
        answer = self.process.ask(kind, count)
        if answer["wrong"]:
            self.wrong[kind] = answer["wrong"]
        elif counts:
            self.seconds.setdefault(kind, []).extend(answer["seconds"])
        if answer["remark"]:
            self.remarks[kind] = answer["remark"]

    def count(self) -> None:
        """What a request of each kind sends."""
        for kind in KINDS:
            if kind not in self.wrong:
                self.sent[kind] = self.process.ask("sent", kind)

    def figures(self) -> dict[str, Any]:
        """All of it, for the table and the plots; times in milliseconds."""
        return {
            "one_effect": self.contestant.one_effect,
            "about": self.process.about,
            "kinds": {kind: self._figures_of(kind) for kind in KINDS},
        }

    def _figures_of(self, kind: str) -> dict[str, Any]:
        if kind in self.wrong or len(self.seconds.get(BARE, ())) < 2:
            return {"wrong": self.wrong.get(kind, "no bare view")}
        sent = self.sent[kind]
        found = {
            "statements": len(sent["statements"]),
            "commands": sent["commands"],
            "remark": self.remarks.get(kind, ""),
        }
        for clock, name in enumerate(("wall", "cpu")):
            values = [times[clock] for times in self.seconds[kind]]
            base = [times[clock] for times in self.seconds[BARE]]
            found[f"{name}_ms"] = spread([value * 1000 for value in values])
            found[f"{name}_ratio"] = ratio(values, base)
        return found


def _leave_out(contestant: Contestant, error: UnusableError) -> None:
    """Say so; without one of ours the rest is for nothing."""
    if contestant.is_ours:
        raise error
    print(f"NOT MEASURED: {contestant.name}: {error}")


@contextmanager
def places(names: Sequence[str], kind: str, address: str) -> Iterator[list[Place]]:
    """A worker of each who takes part on this database; who cannot is reported."""
    with ExitStack() as running:
        found = []
        for contestant in (CONTESTANTS[name] for name in names):
            if kind not in contestant.databases:
                continue
            try:
                process = running.enter_context(Process(contestant, address))
            except UnusableError as error:
                _leave_out(contestant, error)
            else:
                found.append(Place(contestant, process))
        yield found


def take_turns(contestants: Sequence[Place], rounds: int) -> list[Place]:
    """Measure; those who were there to the end."""
    left = list(contestants)
    for number in range(rounds + 1):
        for place in random.sample(left, len(left)):
            try:
                for kind in random.sample(KINDS, len(KINDS)):
                    place.block(kind, BLOCK if number else WARM, counts=number > 0)
                if number == rounds:
                    place.count()
            except UnusableError as error:
                _leave_out(place.contestant, error)
                left.remove(place)
    return [place for place in contestants if place in left]


def _sent(figures: Mapping[str, Any]) -> str:
    commands = f"+{figures['commands']}" if figures["commands"] else ""
    return f"{figures['statements']}{commands}"


def _row(name: str, figures: Mapping[str, Any], kind: str) -> str:
    """A line of a kind's table."""
    own = figures["kinds"][kind]
    once = "yes" if figures["one_effect"] else "no"
    if "wrong" in own:
        return f"  {name:<36} {once:>4}  {own['wrong']}"
    times = f"{own['wall_ms']!s:>20} {own['cpu_ms']!s:>20}"
    ratios = f"{own['wall_ratio']!s:>18} {own['cpu_ratio']!s:>18}" if kind != BARE else ""
    return f"  {name:<36} {once:>4} {_sent(own):>6} {times} {ratios}  {own['remark']}".rstrip()


def _order(figures: Mapping[str, Any], kind: str) -> float:
    own = figures["kinds"][kind]
    return float("inf") if "wrong" in own else float(own["wall_ratio"].median)


def show(kind: str, found: Mapping[str, Mapping[str, Any]]) -> None:
    """A table for each kind of request, the cheapest first."""
    for each in KINDS:
        heads = f"{'once':>4} {'sent':>6} {'ms':>20} {'CPU ms':>20}"
        ratios = f" {'ratio to bare':>18} {'ratio of CPU':>18}" if each != BARE else ""
        print(f"\n{f'{kind}: {each}':<38} {heads}{ratios}")
        for name in sorted(found, key=lambda name: _order(found[name], each)):
            print(_row(name, found[name], each))


def _about(left: Sequence[Place]) -> list[str]:
    """What the environments have; most have the same."""
    told: dict[str, list[str]] = {}
    for place in left:
        text = ", ".join(f"{name} {version}" for name, version in place.process.about.items())
        told.setdefault(text, []).append(place.contestant.name)
    common = max(told.values(), key=len, default=[])
    return [
        text if names is common else f"{', '.join(names)}: {text}" for text, names in told.items()
    ]


def measure(kind: str, names: Sequence[str], rounds: int, about: list[str]) -> dict[str, Any]:
    """One database; its figures, none where its server cannot be had. Adds to ``about``."""
    try:
        with database(kind) as address, places(names, kind, address) as contestants:
            left = take_turns(contestants, rounds)
            found = {place.contestant.name: place.figures() for place in left}
    except ServerUnavailableError as error:
        print(f"\nNOT MEASURED: {kind.upper()}: {error}")
        return {}
    told = _about(left)
    about += told
    print("", *told, sep="\n")
    show(kind, found)
    return found


def _is_wrong(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether one of ours answered something else than it should."""
    ours = [name for name in found if CONTESTANTS[name].is_ours]
    return any("wrong" in kind for name in ours for kind in found[name]["kinds"].values())


def main(arguments: Sequence[str]) -> int:
    """Parse, start the servers, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.views", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help=f"blocks of {BLOCK} of each kind")
    parser.add_argument("--database", action="append", choices=DATABASES)
    parser.add_argument("--contestant", action="append", choices=CONTESTANTS)
    options = parser.parse_args(arguments)
    about = circumstances()
    print("\n".join(about))
    names = options.contestant or list(CONTESTANTS)
    with redis():
        figures = {
            kind: measure(kind, names, options.rounds, about)
            for kind in options.database or DATABASES
        }
    save("views", about, figures)
    return int(any(map(_is_wrong, figures.values())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
