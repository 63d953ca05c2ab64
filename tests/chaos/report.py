"""The figures of a run, as a table for people."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.redis.waits import Wait

from .arena import Arena
from .case import Case
from .checker import Violation
from .faults import Storm
from .history import Exchange, Recall, Run
from .plan import Kind
from .planter import Planter

_SHOWN = 10
_LINES = 60


@dataclass
class Figures:
    """Rows of a table: what, and how much of it."""

    rows: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, value: object) -> None:
        """One row; whole numbers get their thousands separated."""
        self.rows.append((what, f"{value:,}" if isinstance(value, int) else str(value)))

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.rows)
        return "\n".join(f"{what:<{width}}  {value}" for what, value in self.rows)


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that ``part`` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


def spread(times: Iterable[float]) -> str:
    """The median and the longest of so many seconds."""
    if not (seconds := list(times)):
        return "none"
    p50, p99, longest = (percentile(seconds, part) * 1000 for part in (0.5, 0.99, 1))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {longest:.0f} ms (n = {len(seconds):,})"


def counted(counter: Counter[str]) -> str:
    """``name number`` for each, the most frequent first."""
    return ", ".join(f"{name} {number:,}" for name, number in counter.most_common()) or "none"


def add_traffic(figures: Figures, exchanges: Sequence[Exchange], runs: Sequence[Run]) -> None:
    """What the clients saw, and how often the view ran."""
    statuses = Counter(
        "unknown" if exchange.status is None else f"{exchange.status} {exchange.code}".strip()
        for exchange in exchanges
    )
    figures.add("requests", len(exchanges))
    figures.add("  answered", counted(statuses))
    figures.add("  replays", sum(exchange.marked for exchange in exchanges))
    # Requests of ambushes make no stops: they show what a request takes on this machine just now.
    plain = (e.ended - e.began for e in exchanges if e.marked and e.key.startswith(Kind.AMBUSH))
    figures.add("  a replay took", spread(plain))
    figures.add("  left by their clients", sum(exchange.left for exchange in exchanges))
    figures.add("  sent by half", sum(exchange.is_half for exchange in exchanges))
    figures.add("runs of the view", sum(not run.fenced for run in runs))
    takeovers = sum(run.attempt > 1 and not run.fenced for run in runs)
    figures.add("  takeovers (attempt > 1)", takeovers)
    figures.add("  owners fenced off", sum(run.fenced for run in runs))


def add_operations(figures: Figures, cases: Sequence[Case]) -> None:
    """Keys and their effects."""
    figures.add("keys", len(cases))
    figures.add("  effects", sum(len(case.effects) for case in cases))
    several = sum(len({exchange.payload for exchange in case.exchanges}) > 1 for case in cases)
    figures.add("  sent with several requests", several)


def add_storm(figures: Figures, storm: Storm, arena: Arena) -> None:
    """What was done to them, and how long it took them to get over it."""
    for what in ("kills", "zombies", "restarts"):
        figures.add(what, storm.struck[what])
    figures.add("database connections cut", counted(arena.proxy.cuts if arena.proxy else Counter()))
    figures.add("expired records deleted", arena.cleaned)
    unhurt = (recovery.seconds for recovery in storm.recoveries if not recovery.hurt)
    figures.add("kill to the retry's 201", spread(unhurt))
    figures.add("  retries hurt as well", spread(recovery.seconds for recovery in storm.recoveries))


def add_expiries(figures: Figures, recalls: Sequence[Recall]) -> None:
    """What the clerk did."""
    done = [recall for recall in recalls if recall.done]
    figures.add("keys expired by the clerk", len(done))
    unconfirmed = sum(not recall.forgotten for recall in done)
    figures.add("  not confirmed by the replay cache", unconfirmed)


def add_cache(figures: Figures, storm: Storm, waits: Sequence[Wait], planter: Planter) -> None:
    """What was done to the replay cache, and how long requests waited for it."""
    for what in ("flushes", "cache-kills", "cache-freezes"):
        figures.add(f"replay cache: {what.removeprefix('cache-')}", storm.struck[what])
    figures.add("  planted", counted(planter.planted))
    figures.add("  a question took", spread(wait.seconds for wait in waits if not wait.failed))
    figures.add("  one in vain took", spread(wait.seconds for wait in waits if wait.failed))


def told(violations: Sequence[Violation]) -> str:
    """The first violations with the histories of their operations, and how many there are."""
    parts = [f"{count} x {rule}" for rule, count in Counter(v.rule for v in violations).items()]
    for violation in violations[:_SHOWN]:
        parts += ["", f"{violation}", f"  {tuple(violation.operation)}"]
        parts += [f"    {line}" for line in violation.story[:_LINES]]
    return "\n".join(parts)
