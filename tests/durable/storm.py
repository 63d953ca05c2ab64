"""Customers order while workers and completers are killed or freeze, and partners have moods.

What is done to them follows from the seed; what comes of it does not.
"""

import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from testproject.provider.server import Provider

from .customers import Crowd
from .site import Site

#: Set by ``python -m tests.durable``.
KILLS_VARIABLE = "IDEMPOTENCY_TEST_KILLS"
SEED_VARIABLE = "IDEMPOTENCY_TEST_SEED"

_CUSTOMERS = 6
_SECONDS_BETWEEN_KILLS = 0.2
_SECONDS_BETWEEN_MOODS = 0.3
_SERVICES = ("charges", "pickups", "receipts")
# One of eight kills meets a completer, whose successor needs a second to come up.
_COMPLETERS = 0.12
_SECONDS_BETWEEN_FREEZES = 1.0
# The worker notices nothing; for all others this is longer than its lease.
_FROZEN_SECONDS = (1.2, 3.0)


def is_thorough() -> bool:
    """Whether there is more time than a run of all rings has."""
    return KILLS_VARIABLE in os.environ


def kills_wanted() -> int:
    """How many kills, and orders."""
    return int(os.environ.get(KILLS_VARIABLE, "30"))


def seed() -> int:
    """What decides about everything that is done to them."""
    return int(os.environ.get(SEED_VARIABLE, "1"))


@dataclass
class Storm:
    """Rages until so many orders were sent and so many processes killed."""

    site: Site
    provider: Provider
    crowd: Crowd
    number: int
    struck: Counter[str] = field(default_factory=Counter)
    moods: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)

    @property
    def kills(self) -> int:
        """How many there were."""
        return self.struck["workers"] + self.struck["completers"]

    def rage(self) -> None:
        """Let it; all is well when this returns."""
        sources = (self._kill, self._freeze, self._change_moods)
        faults = [threading.Thread(target=source) for source in sources]
        for fault in faults:
            fault.start()
        try:
            with ThreadPoolExecutor(_CUSTOMERS) as pool:
                for sent in [pool.submit(self._order, number) for number in range(_CUSTOMERS)]:
                    sent.result()
        finally:
            self._over.set()
            for fault in faults:
                fault.join()
            for service in _SERVICES:
                self.provider.turn(service, "well")
            self.provider.hurry()

    def _order(self, number: int) -> None:
        rng = random.Random(f"{seed()}/customer/{number}")
        while len(self.crowd.keys) < self.number or self.kills < self.number:
            self.crowd.order(rng)

    def _kill(self) -> None:
        rng = random.Random(f"{seed()}/kills")
        while not self._over.wait(_SECONDS_BETWEEN_KILLS * rng.uniform(0.5, 1.5)):
            if rng.random() < _COMPLETERS:
                self.site.kill_a_completer(rng)
                self.struck["completers"] += 1
            elif self.site.kill_a_worker(rng):
                self.struck["workers"] += 1

    def _freeze(self) -> None:
        rng = random.Random(f"{seed()}/freezes")
        while not self._over.wait(_SECONDS_BETWEEN_FREEZES * rng.uniform(0.5, 1.5)):
            if self.site.freeze_a_worker(rng, rng.uniform(*_FROZEN_SECONDS)):
                self.struck["frozen"] += 1

    def _change_moods(self) -> None:
        rng = random.Random(f"{seed()}/moods")
        while not self._over.wait(_SECONDS_BETWEEN_MOODS * rng.uniform(0.5, 1.5)):
            mood, service = rng.choice(("fail", "hang", "lose")), rng.choice(_SERVICES)
            times, seconds = rng.randint(1, 4), rng.uniform(0.2, 1.0)
            self.provider.turn(service, mood, times=times, seconds=seconds)
            self.moods[mood] += 1
