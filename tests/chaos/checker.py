"""Decides from a history whether every promise was kept.

It receives what clients sent and were told, which runs of the view began, which keys were expired,
what effects stand in the database and which operations are unfinished; it knows nothing of how the
layer works.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from .case import Case, World
from .history import Effect, Exchange, Operation, Recall, Run
from .rules import RULES


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept, and all that is known of its operation."""

    rule: str
    operation: Operation
    sentence: str
    story: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence}"


def cases(
    exchanges: Iterable[Exchange],
    effects: Collection[Effect],
    runs: Iterable[Run],
    calm_since: float,
    recalls: Iterable[Recall] = (),
    **cache: Any,
) -> list[Case]:
    """What happened, sorted by operation; ``cache`` is what a :class:`World` says of it."""
    world = World(
        Counter(run.request for run in runs if not run.fenced),
        {effect.nonce: effect.operation for effect in effects},
        calm_since,
        **cache,
    )
    found: dict[Operation, Case] = {}
    for effect in effects:
        found.setdefault(effect.operation, Case(effect.operation, world)).rows.append(effect)
    for exchange in sorted(exchanges, key=lambda exchange: exchange.began):
        operation = exchange.operation
        found.setdefault(operation, Case(operation, world)).exchanges.append(exchange)
    for recall in (recall for recall in recalls if recall.done is not False):
        if case := found.get(recall.operation):
            case.recalls.append(recall)
    return list(found.values())


def check(everything: Iterable[Case], unfinished: Collection[Operation]) -> list[Violation]:
    """All violations; ``unfinished`` are the operations that the healing did not finish."""
    found = []
    for case in everything:
        violations = [(rule.__name__, words) for rule in RULES for words in rule(case)]
        if case.operation in unfinished:
            violations.append(("unfinished", "not finished by the healing"))
        for rule, words in violations:
            found.append(Violation(rule, case.operation, words, _story(case)))
    return found


def _story(case: Case) -> tuple[str, ...]:
    rows = (
        f"effect {row.nonce[:8]} of {row.request[:8]}, {row.outcome}, at {row.at:.4f} {row.payload}"
        for row in case.rows
    )
    return (*rows, *map(str, case.exchanges), *map(str, case.recalls))
