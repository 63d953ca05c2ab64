"""All that is known of one operation, in the order of time: what the rules look at."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .history import Effect, Exchange, Operation, Recall
from .promises import PROMISES, Promise

#: Clients and the database read different clocks of one machine, which may be slewed.
CLOCKS = 0.005


@dataclass(frozen=True)
class World:
    """What a case must know of all the others."""

    runs: Mapping[str, int]
    owners: Mapping[str, Operation]
    #: When the last fault had been over for long enough.
    calm_since: float
    #: Whether duplicates of a running request may be sent away by the replay cache.
    is_fenced: bool = False
    #: Whether the replay cache's servers may lose what they have acknowledged.
    may_lose: bool = False
    #: The operations whose entries the clerk has brought back, with their markers.
    restored: Collection[Operation] = ()


@dataclass
class Case:
    """Everything about one operation, in the order of time."""

    operation: Operation
    world: World
    exchanges: list[Exchange] = field(default_factory=list)
    rows: list[Effect] = field(default_factory=list)
    #: When the clerk has expired it, or may have.
    recalls: list[Recall] = field(default_factory=list)

    @property
    def promise(self) -> Promise:
        """What its view promises."""
        return PROMISES[self.operation.path]

    @cached_property
    def effects(self) -> list[Effect]:
        """The effects, oldest first: rows of runs that were to succeed."""
        return sorted((row for row in self.rows if row.outcome < 300), key=lambda row: row.at)

    @cached_property
    def successes(self) -> list[Exchange]:
        """The requests whose answer names an effect."""
        return [exchange for exchange in self.exchanges if exchange.succeeded]

    @cached_property
    def effective(self) -> set[str]:
        """The requests that had an effect."""
        return {row.request for row in self.effects}

    def lives(self) -> Iterable[list[Exchange]]:
        """The successes of each life of the key; where it expires, a new effect begins one."""
        if self.promise.retention is None and not self.promise.recalled:
            return [self.successes]
        lives: dict[str, list[Exchange]] = defaultdict(list)
        for success in self.successes:
            lives[success.nonce].append(success)
        return lives.values()

    def kept_since(self, life: list[Exchange]) -> Iterator[tuple[Exchange, float]]:
        """Successes after whose end the reply was to be had, and until when it was."""
        if self.promise.recalled:
            for success in (success for success in life if not success.marked):
                ends = (recall.began for recall in self.recalls if recall.ended > success.began)
                yield success, min(ends, default=float("inf"))
            return
        if self.promise.retention is None:
            if life:
                yield min(life, key=lambda success: success.ended), float("inf")
            return
        for success in life:
            if not success.marked:
                # Saved after it was sent, so kept for longer.
                yield success, success.began + self.promise.retention - CLOCKS
