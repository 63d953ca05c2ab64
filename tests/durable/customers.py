"""Customers who insist on their order, or never come back, and the answers they get."""

import functools
import json
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

_PATIENCE = 10.0
_DEADLINE_SECONDS = 120.0


@functools.cache
def client() -> httpx.Client:
    """One for all threads; every request has a connection of its own."""
    return httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False)


@dataclass(frozen=True, slots=True)
class Told:
    """One answer to one customer; status 0 stands for none."""

    status: int
    body: bytes = b""
    replayed: bool = False

    def __str__(self) -> str:
        try:
            code = json.loads(self.body).get("code", "")
        except ValueError:
            code = ""
        return f"{self.status} {code}".strip() if self.status else "no answer"


@dataclass
class Crowd:
    """All customers of a shop, their keys, and what came back for each."""

    address: str
    token: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    told: dict[str, list[Told]] = field(default_factory=dict)
    #: Those who sent their order once and never came back.
    gone: set[str] = field(default_factory=set)

    @property
    def keys(self) -> list[str]:
        """One for each order, the first first."""
        with self.lock:
            return list(self.told)

    @property
    def statuses(self) -> Counter[str]:
        """What was answered, and how often."""
        with self.lock:
            return Counter(str(told) for replies in self.told.values() for told in replies)

    def new_key(self, *, gone: bool) -> str:
        """The key of an order that nobody has sent."""
        key = uuid.uuid4().hex
        with self.lock:
            self.told[key] = []
            if gone:
                self.gone.add(key)
        return key

    def send(self, key: str, patience: float = _PATIENCE) -> Told:
        """Send an order once, and wait for so long."""
        # One shop, on whichever port its server listens.
        headers = {"Host": "localhost", "Authorization": f"Bearer {self.token}"}
        headers["Idempotency-Key"] = key
        wish = {"cake": "lemon", "icing": key[:8], "address": f"{key} Baker Street"}
        url = f"{self.address}/api/deliveries/"
        try:
            reply = client().post(url, json=wish, headers=headers, timeout=patience)
        except httpx.TransportError:
            told = Told(0)
        else:
            replayed = "Idempotent-Replayed" in reply.headers
            told = Told(reply.status_code, reply.content, replayed)
        with self.lock:
            self.told[key].append(told)
        return told

    def insist(
        self, key: str, pause: Callable[[], float] = lambda: 0.2, patience: float = _PATIENCE
    ) -> None:
        """Send an order until it is answered."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while self.send(key, patience).status != 201:
            assert time.monotonic() < deadline, f"{key} is stuck"
            time.sleep(pause())

    def order(self, rng: random.Random) -> None:
        """One customer: insists, or is not seen again."""
        if rng.random() < 0.4:
            self.send(self.new_key(gone=True), patience=rng.choice((0.03, 0.1, 0.3, 1.0)))
        else:
            key = self.new_key(gone=False)
            self.insist(key, lambda: rng.uniform(0.05, 0.4), patience=rng.uniform(0.3, 5.0))
