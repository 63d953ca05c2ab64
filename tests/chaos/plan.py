"""The schedule of faults, made from the seed before anything runs."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from .promises import LEASE


class Kind(StrEnum):
    """What may go wrong."""

    #: kill -9 for a worker.
    KILL = "kill"
    #: SIGSTOP for a worker, for longer than the lease, and SIGCONT.
    FREEZE = "freeze"
    #: kill -9, sent when a request has reached a point of the protocol; its client retries at once.
    AMBUSH = "ambush"
    #: SIGSTOP at such a point, for longer than the lease.
    ZOMBIE = "zombie"
    #: The database stops at once and recovers.
    RESTART = "restart"
    #: All connections to the database are cut.
    CUT_ALL = "cut-all"
    #: One connection is.
    CUT_ONE = "cut-one"
    #: One is at its next claim, which was sent: the worker never learns whether it was made.
    CUT_CLAIM = "cut-claim"
    #: One is before its next COMMIT arrives, and the database notices a while later.
    CUT_BEFORE_COMMIT = "cut-before-commit"
    #: One is after its next COMMIT was sent, before the answer.
    CUT_AFTER_COMMIT = "cut-after-commit"
    #: The same, and the COMMIT arrives a while after the worker has lost the connection.
    LATE_COMMIT = "late-commit"
    #: The replay cache is emptied, ten times a second.
    CACHE_FLUSH = "cache-flush"
    #: Its server, or the one that others replace, is killed and comes back empty.
    CACHE_KILL = "cache-kill"
    #: The same, by SIGSTOP: it takes connections and answers nothing.
    CACHE_FREEZE = "cache-freeze"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: when (seconds after the beginning), which, its victim and its duration."""

    at: float
    kind: Kind
    #: The victim's place among those there are, modulo their number.
    victim: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.at:8.3f}  {self.kind:<17} victim {self.victim:3} {self.seconds:6.3f} s"


#: Seconds between two faults of a kind, on average. Ten minutes on a server are more than 3,000
#: kills, 250 zombies and 70 restarts and cut-offs.
_SERVER = {
    Kind.KILL: 0.19,
    Kind.FREEZE: 5.0,
    Kind.AMBUSH: 0.6,
    Kind.ZOMBIE: 3.5,
    Kind.RESTART: 20.0,
    Kind.CUT_ALL: 15.0,
    Kind.CUT_ONE: 2.0,
    Kind.CUT_CLAIM: 3.0,
    Kind.CUT_BEFORE_COMMIT: 2.0,
    Kind.CUT_AFTER_COMMIT: 2.0,
    Kind.LATE_COMMIT: 3.0,
}

#: SQLite is a file: nothing to cut or to restart, and a worker frozen in a transaction stops all.
_SQLITE = {Kind.KILL: 0.25, Kind.FREEZE: 8.0, Kind.AMBUSH: 1.5, Kind.ZOMBIE: 8.0}

#: In addition to those of the database. Between them entries live long enough to be restored.
_CACHE = {Kind.CACHE_FLUSH: 6.0, Kind.CACHE_KILL: 9.0, Kind.CACHE_FREEZE: 8.0}

# How long a fault lasts, from and to.
_LENGTHS = {
    Kind.FREEZE: (LEASE * 1.3, LEASE * 3),
    Kind.ZOMBIE: (LEASE * 1.3, LEASE * 3),
    Kind.AMBUSH: (0.02, 0.1),
    Kind.CUT_BEFORE_COMMIT: (0.0, 0.5),
    Kind.LATE_COMMIT: (0.02, 0.6),
    Kind.CACHE_FLUSH: (1.0, 3.0),
    Kind.CACHE_KILL: (0.0, 1.0),
    Kind.CACHE_FREEZE: (0.2, 2.5),
}


def plan(seed: int, seconds: float, *, server: bool, cache: bool = False) -> list[Fault]:
    """All faults of a run, in order; the same for the same arguments."""
    rates = (_SERVER if server else _SQLITE) | (_CACHE if cache else {})
    faults = (
        fault
        for kind, period in rates.items()
        for fault in _series(random.Random(f"{seed}/{kind}"), kind, period, seconds)
    )
    return sorted(faults, key=lambda fault: fault.at)


def _series(rng: random.Random, kind: Kind, period: float, seconds: float) -> Iterator[Fault]:
    at = rng.uniform(0, period)
    while at < seconds:
        length = rng.uniform(*_LENGTHS.get(kind, (0.0, 0.0)))
        yield Fault(round(at, 3), kind, rng.randrange(100), round(length, 3))
        at += period * rng.uniform(0.5, 1.5)
