"""How the provider misbehaves. Moods live in memory: a provider that was restarted is well."""

import enum
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from .services import Service


class Mood(enum.StrEnum):
    """What becomes of a request."""

    WELL = "well"
    # 503, and nothing is done.
    FAIL = "fail"
    # 402, and nothing is done. As with a real provider, the key keeps this reply.
    DECLINE = "decline"
    # It is served after a while, whether or not somebody still waits.
    HANG = "hang"
    # It is served, and the connection is closed without a reply.
    LOSE = "lose"


@dataclass(frozen=True)
class Spell:
    """A mood that lasts for ``times`` requests, or on and on; only hanging takes seconds."""

    mood: Mood = Mood.WELL
    times: int | None = None
    seconds: float = 0.0

    def after_a_request(self) -> "Spell":
        """What is left of it."""
        if self.times is None:
            return self
        return replace(self, times=self.times - 1) if self.times > 1 else Spell()


class Temper:
    """The moods of all services, and the requests they have in hand, for several threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._spells = dict.fromkeys(Service, Spell())
        self._in_hand = 0
        self._hurries = 0

    def turn(self, spells: Mapping[Service, Spell]) -> None:
        """Put these services in another mood."""
        with self._condition:
            self._spells.update(spells)

    @contextmanager
    def meet(self, service: Service) -> Iterator[Spell]:
        """The mood that meets the request which has just arrived, and is served in the block."""
        with self._condition:
            spell = self._spells[service]
            self._spells[service] = spell.after_a_request()
            self._in_hand += 1
        try:
            yield spell
        finally:
            with self._condition:
                self._in_hand -= 1
                self._condition.notify_all()

    def hang(self, seconds: float) -> None:
        """Return after so long, or when somebody hurries us."""
        with self._condition:
            hurries = self._hurries
            self._condition.wait_for(lambda: self._hurries > hurries, seconds)

    def hurry(self) -> None:
        """Return when nothing is in hand; what hangs is served at once."""
        with self._condition:
            self._hurries += 1
            self._condition.notify_all()
            self._condition.wait_for(lambda: not self._in_hand)

    def describe(self) -> dict[str, dict[str, Any]]:
        """All moods, as JSON has them."""
        return {service.value: asdict(spell) for service, spell in self._spells.items()}


TEMPER = Temper()
