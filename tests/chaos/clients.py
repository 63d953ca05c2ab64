"""The clients: processes of threads which invent errands, insist on them, and repeat old ones.

A client retries with the same key until it is told of an effect, gives up waiting, cuts its own
connection before the answer or in the middle of the request, sends the same again while the first
still runs, later, and after the reply has expired, and sends another request with an old key. What
it sends follows from the seed; what comes back does not.
"""

import json
import multiprocessing
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from .caller import Caller, Errand, Manner
from .history import Diary, Exchange
from .promises import LEASE, POINTS, PROMISES

#: Threads of one client process. Two processes are some 200 requests a second: a machine with two
#: processors is busy with them, and a retry still finds a worker free.
THREADS = 6
#: What another caller sends as Authorization.
STRANGER = "Stranger"

# How many requests an errand is worth before another client has to finish it.
_TRIES = 12
# Old errands are asked for again; the oldest are forgotten.
_REMEMBERED = 2000

# Most requests wait for their answer; the others give up early, or in the middle of the body.
_MANNERS = ("patient",) * 20 + ("hasty",) * 6 + ("cut",) * 2 + ("half",)


class Book:
    """The errands of one process, oldest first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._count = 0
        self._errands: deque[tuple[float, Errand]] = deque(maxlen=_REMEMBERED)

    def invent(self, rng: random.Random, pace: float) -> Errand:
        """A new errand; ``pace`` stretches how long its view takes."""
        with self._lock:
            self._count += 1
            number = self._count
        path = rng.choices(list(PROMISES), weights=(60, 12, 16, 12, 16))[0]
        act = rng.choices(("serve", "refuse", "crash", "fail"), weights=(76, 8, 8, 8))[0]
        seconds = rng.uniform(0, 0.06) * pace
        if rng.random() < 0.01:
            # Longer than the lease, which is nothing to an atomic view.
            seconds = LEASE * 1.2
        payload = {"errand": number, "act": act, "seconds": round(seconds, 4)}
        key = f"{self._name}-{number:06d}-{rng.getrandbits(48):012x}"
        errand = Errand("", key, path, json.dumps(payload))
        with self._lock:
            self._errands.append((time.monotonic(), errand))
        if rng.random() < 0.05:
            # The same key means another operation to another caller.
            with self._lock:
                self._errands.append((time.monotonic(), replace(errand, caller=STRANGER)))
        return errand

    def recall(self, rng: random.Random, newest: int, age: float) -> Errand | None:
        """One of the ``newest`` errands that was made ``age`` seconds ago, or earlier."""
        with self._lock:
            known = list(self._errands)[-newest:] if newest else []
        until = time.monotonic() - age
        return rng.choice([errand for since, errand in known if since <= until] or [None])


class Client:
    """One thread of a client process."""

    def __init__(self, caller: Caller, book: Book, seed: str, pace: float) -> None:
        self._caller = caller
        self._book = book
        self._rng = random.Random(seed)
        self._pace = pace

    def work(self, is_over: Callable[[], bool], sent: Callable[[Exchange], None]) -> None:
        """One errand after the other."""
        while not is_over():
            self._insist(self._choose(), is_over, sent)
            time.sleep(self._rng.uniform(0, 0.04) * self._pace)

    def _choose(self) -> Errand:
        rng, book = self._rng, self._book
        choice = rng.choices(("new", "during", "later", "mistaken"), weights=(24, 34, 30, 12))[0]
        newest, age = {
            "new": (0, 0.0),
            "during": (2 * THREADS, 0.0),
            "later": (_REMEMBERED, rng.choice((0.5, 3.0, 20.0))),
            "mistaken": (4 * THREADS, 0.0),
        }[choice]
        recalled = book.recall(rng, newest, age)
        if recalled is None:
            return book.invent(rng, self._pace)
        return recalled.mistaken() if choice == "mistaken" else recalled

    def _insist(
        self, errand: Errand, is_over: Callable[[], bool], sent: Callable[[Exchange], None]
    ) -> None:
        for _ in range(_TRIES):
            exchange = self._caller.send(errand, self._manner())
            sent(exchange)
            if exchange.succeeded or exchange.status == 422 or is_over():
                return
            time.sleep(self._rng.uniform(0.01, 0.12) * self._pace)

    def _manner(self) -> Manner:
        rng = self._rng
        manner = rng.choice(_MANNERS)
        linger = ""
        if rng.random() < 0.08:
            point = rng.choice([point for point in POINTS if point != "in-view"])
            linger = f"{point};{rng.uniform(0, 0.1) * self._pace:.3f};"
        return {
            "patient": Manner(linger=linger),
            "hasty": Manner(patience=rng.uniform(0.02, 1.0) * self._pace, linger=linger),
            "cut": Manner(leaves_after=rng.choice((0.0, rng.uniform(0, 0.05))), linger=linger),
            "half": Manner(half=True, leaves_after=0.0),
        }[manner]


def run(
    name: str, seed: int, pace: float, port: int, folder: Path, until: float, count: Any
) -> None:
    """A client process; ``count`` is a shared number to which it adds its requests."""
    diary = Diary(folder / f"exchanges-{name}.jsonl")
    caller, book = Caller(port, diary), Book(f"{seed}-{name}")

    def sent(exchange: Exchange) -> None:
        with count.get_lock():
            count.value += 1

    hammer = multiprocessing.parent_process()

    def is_over() -> bool:
        return time.monotonic() > until or (hammer is not None and not hammer.is_alive())

    def work(number: int) -> None:
        Client(caller, book, f"{seed}/{name}/{number}", pace).work(is_over, sent)

    threads = [threading.Thread(target=work, args=[number]) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    diary.flush()
