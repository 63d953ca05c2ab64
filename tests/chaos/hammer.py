"""One run of the hammer: build the arena, let the storm rage, heal, check, report."""

import contextlib
import multiprocessing
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django

from tests.redis.waits import Wait, waits

from . import ledger
from .arena import Arena, Cache
from .caller import Caller
from .checker import cases, check
from .clients import run as run_clients
from .faults import Storm
from .healing import heal
from .history import Diary, Operation, exchanges, hits, recalls, runs
from .patience import impatient, measured
from .plan import Fault
from .planter import Planter
from .report import (
    Figures,
    add_cache,
    add_expiries,
    add_operations,
    add_storm,
    add_traffic,
    told,
)

_PROCESSES = 2
# SQLite has one write lock, so its views are short; the others' take up to 60 ms.
_PACE = {"sqlite": 0.25}
_PROGRESS_SECONDS = 10.0
# The clients need a moment to start, and go on after the last fault.
_WARMING_SECONDS = 2.0
_CALM_SECONDS = 3.0
# From the last fault on, this long, errors are still excused.
_CALMING_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Orders:
    """What to do: one run."""

    database: str
    seed: int
    seconds: float
    faults: list[Fault]
    cache: Cache | None = None
    keep: bool = False


@contextlib.contextmanager
def _run_folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="django-idempotency-chaos-"))
    try:
        yield folder
    finally:
        if keep:
            print(f"histories and logs: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


class Hammer:
    """A run in its folder."""

    def __init__(self, orders: Orders, folder: Path) -> None:
        self._orders = orders
        self._folder = folder
        self._diary = Diary(folder / "exchanges-main.jsonl")
        self._calm_since = 0.0
        self._planter = Planter(folder, orders.seed) if orders.cache else None

    def run(self) -> int:
        """Print the figures; 1 if a promise was broken, else 0."""
        with Arena(self._orders.database, self._orders.cache, self._folder) as arena:
            with arena.hit():
                caller = Caller(arena.site.port, self._diary)
                storm = Storm(arena, caller, self._folder)
                self._rage(storm, arena.site.port)
                self._diary.flush()
                stuck = heal(caller, exchanges(self._folder), self._orders.seed)
            self._diary.flush()
            return self._judge(arena, storm, stuck)

    def _rage(self, storm: Storm, port: int) -> None:
        """Faults and clients at the same time; returns when both are done."""
        orders = self._orders
        context = multiprocessing.get_context("spawn")
        count = context.Value("Q", 0)
        began = time.monotonic() + _WARMING_SECONDS
        until = began + orders.seconds + _CALM_SECONDS
        pace = _PACE.get(orders.database, 1.0)
        processes = [
            context.Process(
                target=run_clients,
                args=(str(name), orders.seed, pace, port, self._folder, until, count),
                daemon=True,
            )
            for name in range(_PROCESSES)
        ]
        for process in processes:
            process.start()
        planting = self._planter or contextlib.nullcontext()
        with _progress(lambda: f"{count.value:,} requests, {storm}"), planting:
            storm.rage(orders.faults, began)
            self._calm_since = time.monotonic() + _CALMING_SECONDS
            for process in processes:
                process.join()

    def _judge(self, arena: Arena, storm: Storm, stuck: set[Operation]) -> int:
        history, ran = list(exchanges(self._folder)), list(runs(self._folder))
        expired = list(recalls(self._folder))
        cache = self._cache_facts()
        everything = cases(history, ledger.effects(), ran, self._calm_since, expired, **cache)
        unfinished = ledger.unfinished() | stuck
        violations = check(everything, unfinished)
        figures = Figures()
        figures.add("database", ledger.version())
        figures.add("Python, Django", f"{platform.python_version()}, {django.__version__}")
        figures.add("seconds, seed", f"{self._orders.seconds:g}, {self._orders.seed}")
        add_traffic(figures, history, ran)
        add_operations(figures, everything)
        add_storm(figures, storm, arena)
        add_expiries(figures, expired)
        faults = self._faults_of_cache(figures, storm, waits(arena.waits))
        figures.add("violations", len(violations))
        figures.add("unfinished", len(unfinished))
        print(figures, *faults, sep="\n")
        if violations:
            print(told(violations))
        return 1 if violations or unfinished or faults else 0

    def _faults_of_cache(self, figures: Figures, storm: Storm, waited: list[Wait]) -> list[str]:
        """What is wrong with the replay cache, apart from its answers; adds its figures."""
        cache = self._orders.cache
        if cache is None or self._planter is None:
            return []
        add_cache(figures, storm, measured(waited, storm.freezes), self._planter)
        figures.add("  answered by it", hits(self._folder))
        faults = list(impatient(waited, storm.freezes, cache.asked))
        figures.add("  waits too long, too often or too soon", len(faults))
        return [*faults, *["a planted pickle was loaded"] * self._planter.has_exploded]

    def _cache_facts(self) -> dict[str, Any]:
        """What the checker must know of the replay cache."""
        cache = self._orders.cache
        if cache is None or self._planter is None:
            return {}
        restored = ledger.operations(self._planter.restored)
        return {"is_fenced": cache.fence, "may_lose": cache.may_lose, "restored": restored}


@contextlib.contextmanager
def _progress(line: Callable[[], str]) -> Iterator[None]:
    """Print ``line`` every few seconds."""
    over = threading.Event()
    began = time.monotonic()

    def report() -> None:
        while not over.wait(_PROGRESS_SECONDS):
            print(f"{time.monotonic() - began:5.0f} s  {line()}", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=report)
    reporter.start()
    try:
        yield
    finally:
        over.set()
        reporter.join()


def run(orders: Orders) -> int:
    """Carry out the orders; the exit status."""
    with _run_folder(keep=orders.keep) as folder:
        return Hammer(orders, folder).run()
