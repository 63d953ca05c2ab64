"""An attacker who can write to the replay cache's Redis, and knows no secret.

It writes entries that were never signed, or were signed for another place; pickles that do harm
when they are loaded; halves of entries; and what it has kept: old entries, markers and fences.
"""

import random
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core.cache import caches

from tests.redis.bombs import bomb

_PERIOD = 0.005
_SCAN_SECONDS = 0.1
_KEPT = 2000
_MARKER, _ENTRY, _FENCE = b":m", b":e", b":f"


class Planter:
    """Plants until it is stopped, in a thread of its own; counts what."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = random.Random(f"{seed}/planter")
        self._bomb = bomb(folder / "boom")
        self._boom = folder / "boom"
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._names: list[bytes] = []
        #: What lay where: keys without their last letter, with their values.
        self._kept: deque[tuple[bytes, dict[bytes, bytes]]] = deque(maxlen=_KEPT)
        self.planted: Counter[str] = Counter()
        #: Records whose marker the planter has brought back with their entry.
        self.restored: set[uuid.UUID] = set()
        self._acts: dict[str, Callable[[bytes], None]] = {
            "bombs": self._plant_bomb,
            "flipped": self._flip,
            "halves": self._halve,
            "moved": self._move,
            "entries restored": self._restore_entry,
            "pairs restored": self._restore_pair,
            "fences restored": self._restore_fence,
            "markers": self._plant_marker,
            "lists": self._plant_list,
        }

    def __enter__(self) -> "Planter":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    @property
    def has_exploded(self) -> bool:
        """Whether a process has loaded a pickle."""
        return self._boom.exists()

    @property
    def _redis(self) -> Any:
        return caches["redis"].client.get_client(write=True)

    def _work(self) -> None:
        due = 0.0
        while not self._is_over.wait(_PERIOD):
            # The server may be frozen, dead, or a replica just now.
            with suppress(Exception):
                if time.monotonic() >= due:
                    self._look_around()
                    due = time.monotonic() + _SCAN_SECONDS
                self._plant()

    def _look_around(self) -> None:
        self._names = [name[:-2] for name in self._redis.scan_iter(b"*}:e", count=1000)]
        fences = [name[:-2] for name in self._redis.scan_iter(b"*}:f", count=1000)]
        for name in [*self._rng.sample(self._names, min(10, len(self._names))), *fences[:10]]:
            places = (_MARKER, _ENTRY, _FENCE)
            values = self._redis.mget([name + place for place in places])
            found = {place: v for place, v in zip(places, values, strict=True) if v is not None}
            self._kept.append((name, found))

    def _plant(self) -> None:
        name = self._rng.choice(self._names or [self._rng.choice(self._kept)[0]])
        what = self._rng.choice(list(self._acts))
        self._acts[what](name)
        self.planted[what] += 1

    def _place(self) -> bytes:
        return self._rng.choice((_MARKER, _ENTRY, _FENCE))

    def _put(self, name: bytes, value: bytes) -> None:
        # Planted entries get no expiry, unlike the package's.
        self._redis.set(name, value)

    def _plant_bomb(self, name: bytes) -> None:
        self._put(name + self._place(), self._bomb)

    def _changed(self, name: bytes, change: Callable[[bytes], bytes]) -> None:
        if entry := self._redis.get(name + _ENTRY):
            self._put(name + _ENTRY, change(entry))

    def _flip(self, name: bytes) -> None:
        at = self._rng.randrange(100)
        self._changed(name, lambda entry: entry[:at] + bytes([entry[at] ^ 1]) + entry[at + 1 :])

    def _halve(self, name: bytes) -> None:
        self._changed(name, lambda entry: entry[: self._rng.randrange(len(entry))])

    def _move(self, name: bytes) -> None:
        """Everything that belongs to another operation."""
        other, values = self._rng.choice(self._kept)
        if other != name:
            for place, value in values.items():
                self._put(name + place, value)

    def _restore_entry(self, name: bytes) -> None:
        name, values = self._rng.choice(self._kept)
        self._put(name + _ENTRY, values[_ENTRY])

    def _restore_pair(self, name: bytes) -> None:
        name, values = self._rng.choice(self._kept)
        # Noted before it is written: the checker looks up a replay that came from it.
        self.restored.add(uuid.UUID(name.rpartition(b":")[2].rstrip(b"}").decode()))
        for place in (_MARKER, _ENTRY):
            self._put(name + place, values[place])

    def _restore_fence(self, name: bytes) -> None:
        name, values = self._rng.choice(self._kept)
        self._put(name + _FENCE, values[_FENCE])

    def _plant_marker(self, name: bytes) -> None:
        self._put(name + _MARKER, self._rng.randbytes(self._rng.choice((0, 16, 16, 40))))

    def _plant_list(self, name: bytes) -> None:
        place = name + self._place()
        self._redis.delete(place)
        self._redis.rpush(place, b"a value of another type")
