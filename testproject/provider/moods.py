"""How the provider misbehaves. Moods live in memory: a provider that was restarted is well."""

import enum
import threading
from collections.abc import Mapping
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
    """The moods of all services, for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spells = dict.fromkeys(Service, Spell())

    def turn(self, spells: Mapping[Service, Spell]) -> None:
        """Put these services in another mood."""
        with self._lock:
            self._spells.update(spells)

    def draw(self, service: Service) -> Spell:
        """The mood that meets the request which has just arrived."""
        with self._lock:
            spell = self._spells[service]
            self._spells[service] = spell.after_a_request()
        return spell

    def describe(self) -> dict[str, dict[str, Any]]:
        """All moods, as JSON has them."""
        return {service.value: asdict(spell) for service, spell in self._spells.items()}


TEMPER = Temper()
