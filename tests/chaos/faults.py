"""The faults at work: each entry of the plan is struck at its time, in a thread of its own.

An ambush is a fault with a client in front of it: it sends a request that tells where it is,
strikes the very worker at that point, and retries at once.
"""

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.support.servers import Valkey

from .arena import Arena
from .caller import Caller, Errand, Manner
from .history import Exchange
from .plan import Fault, Kind

# Where a request is met: one to be killed mostly in its view, which is measured; one to be frozen
# mostly between its claim and its lock, where it will find itself fenced off.
_POINTS = {
    Kind.AMBUSH: ("in-view",) * 4 + ("before-claim", "after-claim", "before-commit"),
    Kind.ZOMBIE: ("after-claim",) * 3 + ("before-claim", "in-view", "before-commit", "before-fill"),
}
_RETRY_SECONDS = 0.005
_FLUSH_SECONDS = 0.1
# Long enough for sentinels, or a cluster, to miss a server.
_NOTICED_SECONDS = 0.5
# A key that stays stuck for longer is for the healing, and for the checker, to find.
_LONGEST_RECOVERY = 10.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """From the kill in an atomic view to the retry's own 201."""

    seconds: float
    #: Whether a retry itself lost its worker or its database.
    hurt: bool


class Freeze(NamedTuple):
    """A worker that stood still, and when."""

    worker: int
    began: float
    ended: float


class Storm:
    """Strikes the faults of a plan and counts them."""

    def __init__(self, arena: Arena, caller: Caller, folder: Path) -> None:
        self._site = arena.site
        self._server = arena.server
        self._proxy = arena.proxy
        self._group = arena.group
        self._caller = caller
        self._folder = folder
        self._lock = threading.Lock()
        self._restarting = threading.Lock()
        self._replacing = threading.Lock()
        self.freezes: list[Freeze] = []
        self.struck: Counter[str] = Counter()
        self.recoveries: list[Recovery] = []

    def __str__(self) -> str:
        return ", ".join(f"{number:,} {what}" for what, number in sorted(self.struck.items()))

    def rage(self, plan: list[Fault], began: float) -> None:
        """Strike every fault at its time; all is thawed and started when this returns."""
        with ThreadPoolExecutor(32) as pool:
            struck = []
            for number, fault in enumerate(plan):
                time.sleep(max(0.0, began + fault.at - time.monotonic()))
                struck.append(pool.submit(self._strike, number, fault))
        for future in struck:
            future.result()

    def _strike(self, number: int, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL:
                self._kill(self._site.victim(fault.victim))
            case Kind.FREEZE:
                self._freeze(self._site.victim(fault.victim), fault.seconds)
            case Kind.AMBUSH | Kind.ZOMBIE:
                self._ambush(number, fault)
            case Kind.RESTART:
                self._restart()
            case Kind.CACHE_FLUSH:
                self._flush_cache(fault.seconds)
            case Kind.CACHE_KILL | Kind.CACHE_FREEZE:
                self._lose_cache(fault)
            case _ if self._proxy:
                self._proxy.cut(fault)

    def _count(self, what: str) -> None:
        with self._lock:
            self.struck[what] += 1

    def _kill(self, worker: int | None) -> None:
        if worker and self._site.send(worker, signal.SIGKILL):
            self._count("kills")

    def _freeze(self, worker: int | None, seconds: float) -> None:
        began = time.monotonic()
        if worker and self._site.freeze(worker, seconds):
            self._count("zombies")
        if worker:
            self.freezes.append(Freeze(worker, began, time.monotonic()))

    def _restart(self) -> None:
        if self._server is None:
            return
        with self._restarting:
            self._server.crash()
            self._server.start()
            self._count("restarts")

    def _flush_cache(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._group and time.monotonic() < until:
            self._group.flush()
            self._count("flushes")
            time.sleep(_FLUSH_SECONDS)

    def _lose_cache(self, fault: Fault) -> None:
        if self._group is None:
            return
        # One after the other: a service that loses two servers at once is no service.
        with self._replacing:
            lost = self._group.first()
            if fault.kind is Kind.CACHE_KILL:
                lost.crash()
                self._replace(lost, fault.seconds)
                lost.start()
            else:
                with lost.frozen():
                    self._replace(lost, fault.seconds)
            self._group.gather()
            self._count(f"{fault.kind}s")

    def _replace(self, lost: Valkey, seconds: float) -> None:
        """Return after so long, or when another server has taken its place."""
        began = time.monotonic()
        if self._group and seconds > _NOTICED_SECONDS:
            self._group.recover(lost)
        time.sleep(max(0.0, began + seconds - time.monotonic()))

    def _ambush(self, number: int, fault: Fault) -> None:
        point, errand = _bait(number, fault)
        with self._met(number, point, errand) as worker:
            if worker and fault.kind is Kind.ZOMBIE:
                self._haunt(worker, fault.seconds, errand)
            elif worker:
                self._recover(worker, fault.seconds, errand, measured=point == "in-view")

    @contextmanager
    def _met(self, number: int, point: str, errand: Errand) -> Iterator[int | None]:
        """The worker that serves the errand and stands at ``point``; None if none came so far."""
        address = self._folder / f"{number}.socket"
        manner = Manner(linger=f"{point};0.3;{address}")
        first = threading.Thread(target=self._caller.send, args=[errand, manner])
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(str(address))
            ear.settimeout(2.0)
            first.start()
            try:
                worker = int(ear.recv(16))
            except TimeoutError:
                worker = None
        address.unlink()
        yield worker
        first.join()
        self._caller.send(errand)

    def _haunt(self, worker: int, seconds: float, errand: Errand) -> None:
        freezing = threading.Thread(target=self._freeze, args=[worker, seconds])
        freezing.start()
        while freezing.is_alive():
            self._caller.send(errand, Manner(patience=0.3))
            time.sleep(_RETRY_SECONDS * 10)

    def _recover(self, worker: int, delay: float, errand: Errand, *, measured: bool) -> None:
        time.sleep(delay)
        self._kill(worker)
        killed = time.monotonic()
        hurt = False
        while time.monotonic() < killed + _LONGEST_RECOVERY:
            answer = self._caller.send(errand, Manner(patience=1.0))
            if answer.succeeded:
                if measured and not answer.marked:
                    self.recoveries.append(Recovery(answer.ended - killed, hurt))
                return
            hurt = hurt or _hurts(answer)
            time.sleep(_RETRY_SECONDS)


def _bait(number: int, fault: Fault) -> tuple[str, Errand]:
    """Where a request is met, and which."""
    rng = random.Random(fault.victim)
    point = rng.choice(_POINTS[fault.kind])
    path = rng.choice(("/once/", "/plain/")) if fault.kind is Kind.ZOMBIE else "/once/"
    key = f"{fault.kind}-{number:06d}-{fault.victim:02d}-{fault.at:.3f}"
    return point, Errand("", key, path, '{"errand": 0, "act": "serve", "seconds": 0}')


def _hurts(answer: Exchange) -> bool:
    return answer.status is None or answer.status >= 500
