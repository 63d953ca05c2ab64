"""Runs the rings of proof and says at the end what each of them found.

``python -m tests.support.rings`` runs all of them, or those that are named; what follows ``--``
goes to pytest: ``sqlite -- -k replay``. A ring that cannot run here is left out, and the summary
says so; ``--strict`` makes that a failure.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import StringIO
from itertools import product
from pathlib import Path
from typing import TextIO

from tests.browser import chromium
from tests.support.servers import DATABASE_VARIABLE, UNAVAILABLE, mariadb, pgbouncer
from tests.support.servers.folders import DATA_VARIABLE

ROOT = Path(__file__).parents[2]
PYTEST = (sys.executable, "-m", "pytest")
SERVERS = (sys.executable, "-m", "tests.support.servers", "--database")
# Markers say to which rings a test belongs: see setup.cfg.
OTHER_RINGS = "browser or durable or redis"
ON_SQLITE = (*PYTEST, "-m", f"not ({OTHER_RINGS})")
SUITE = (*PYTEST, "--few-doors", "-m", f"not ({OTHER_RINGS} or once)")
FAST = (*PYTEST, "-q", "--few-doors", "-m", "not slow")
BEHIND_PGBOUNCER = (*PYTEST, "--few-doors", "-m", "(contract or races) and not once")
ON_REDIS = (*SERVERS, "postgresql", "--redis", "--", *PYTEST)
DURABLE = (sys.executable, "-m", "tests.durable", "--database")
HAMMER = (sys.executable, "-m", "tests.chaos", "--seconds", "20", "--database")
TOX = (sys.executable, "-m", "tox", "--quiet", "run", "-e")
LAYERS = (str(Path(sys.executable).with_name("lint-imports")), "--no-logo")

# What a killed server has written survives in memory as it does on a disk, and no test cuts the
# power: with both, the suite on PostgreSQL took half as long. WAL and tables need the room.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30

# A tool's own closing line, the numbers of a ring.
CLOSING = re.compile(
    r"\d+ (passed|failed|errors?|skipped|deselected|xfailed)\b"
    r"|^violations +\d+|^Found \d+ errors?|^Success: |^Contracts: |\d+ files? (already|would be)"
    r"|^\d+ checks hold"
)


@dataclass(frozen=True)
class Ring:
    """One ring: its name, what it proves, and the commands that do, once for each database."""

    name: str
    title: str
    commands: tuple[tuple[str, ...], ...]
    databases: tuple[str, ...] = ("sqlite",)
    takes_arguments: bool = False
    remedy: str = ""
    #: Whether another ring runs all of its tests, so that it is run only when it is asked for.
    is_part: bool = False


@dataclass(frozen=True)
class Step:
    """One command of a ring, on one database."""

    ring: Ring
    database: str
    command: tuple[str, ...]


@dataclass
class Result:
    """What became of a ring."""

    ring: Ring
    status: int = 0
    #: Of all its steps, some of which may have run side by side.
    seconds: float = 0.0
    numbers: list[str] = field(default_factory=list)

    def add(self, status: int, seconds: float, closing: str) -> None:
        """What became of a step; a failure is the ring's."""
        if self.verdict != "FAILED":
            self.status = status or self.status
        self.seconds += seconds
        self.numbers.append(closing)

    @property
    def verdict(self) -> str:
        """``ok``, ``FAILED`` or ``left out``."""
        return {0: "ok", UNAVAILABLE: "left out"}.get(self.status, "FAILED")


RINGS = (
    Ring(
        "lint",
        "style",
        (
            (sys.executable, "-m", "ruff", "check", "."),
            (sys.executable, "-m", "ruff", "format", "--check", "."),
        ),
    ),
    Ring("types", "types", ((sys.executable, "-m", "mypy"),)),
    Ring("layers", "imports go downward", (LAYERS,)),
    Ring(
        "quick",
        "the fast tests of units and contract on SQLite, through some of the doors",
        ((*FAST, "tests/unit"), (*FAST, "tests/contract")),
        takes_arguments=True,
        is_part=True,
    ),
    # Side by side: the suites, which keep a core busy, and rings that wait for a clock.
    Ring("sqlite", "the suite on SQLite", (ON_SQLITE,), takes_arguments=True),
    Ring(
        "redis",
        "cached replays: costs, outages, planted entries, expiries (PostgreSQL and Valkey)",
        (
            (*ON_REDIS, "-m", "redis"),
            (*ON_REDIS, "--ds", "tests.redis.settings", "--few-doors", "-m", "cached"),
        ),
        takes_arguments=True,
        remedy="the reason stands above; network access to PyPI",
    ),
    Ring(
        "operations",
        "orders of several steps: kills, outages, deploys (make durable: on SQLite, too)",
        ((*DURABLE, "mariadb"), (*DURABLE, "postgresql")),
        takes_arguments=True,
        remedy=mariadb.REMEDY,
    ),
    Ring(
        "postgresql",
        "the suite on PostgreSQL",
        ((*SERVERS, "postgresql", "--", *SUITE),),
        takes_arguments=True,
        remedy="the reason stands above; network access to PyPI, or the libraries PostgreSQL needs "
        "(see .ci/run)",
    ),
    Ring(
        "hammer",
        "20 s of faults on each database (make chaos takes longer)",
        ((*HAMMER, "postgresql"), (*HAMMER, "mariadb"), (*HAMMER, "sqlite")),
        remedy=mariadb.REMEDY,
    ),
    Ring(
        "mariadb",
        "the suite on MariaDB",
        ((*SERVERS, "mariadb", "--", *SUITE),),
        takes_arguments=True,
        remedy=mariadb.REMEDY,
    ),
    Ring(
        "sqlite-modes",
        "races and crashes in SQLite's other modes",
        ((*PYTEST, "-m", "races"),),
        databases=("sqlite-deferred-wal", "sqlite-immediate-delete", "sqlite-deferred-delete"),
        takes_arguments=True,
    ),
    Ring(
        "pgbouncer",
        "contract, races and crashes on PostgreSQL behind PgBouncer",
        # The matrices for one door: the others differ before they reach a database. The databases
        # go with the server: PgBouncer's connections keep them from being dropped.
        (
            (
                *(*SERVERS, "pgbouncer", "--", *BEHIND_PGBOUNCER, "--reuse-db"),
                *("-k", "not (test_outcomes or test_replays or test_quota) or /function/"),
            ),
        ),
        takes_arguments=True,
        remedy=pgbouncer.REMEDY,
    ),
    Ring(
        "browser",
        "forms in Chromium",
        ((sys.executable, "-m", "tests.browser"),),
        takes_arguments=True,
        remedy=chromium.REMEDY,
    ),
    Ring("base", "the contract without DRF and django-redis", ((*TOX, "base"),)),
    Ring("dist", "the wheel in an empty environment", ((*TOX, "dist"),)),
)


def run_all(rings: Sequence[Ring], arguments: Sequence[str], jobs: int) -> list[Result]:
    """Run the steps of the rings, several side by side or one after the other."""
    results = {ring.name: Result(ring) for ring in rings}
    steps = [
        Step(ring, database, (*command, *(arguments if ring.takes_arguments else ())))
        for ring in rings
        for database, command in product(ring.databases, ring.commands)
    ]
    with ThreadPoolExecutor(jobs) as pool:
        endings = map(run, steps) if jobs == 1 else pool.map(quietly, steps)
        for step, ended in zip(steps, endings, strict=True):
            results[step.ring.name].add(*ended)
    return list(results.values())


def quietly(step: Step) -> tuple[int, float, str]:
    """Run a step beside others: what it prints is shown when it is done."""
    print(f"... {step.ring.name} begins", flush=True)
    output = StringIO()
    ended = run(step, output)
    print(output.getvalue(), end="", flush=True)
    return ended


def run(step: Step, output: TextIO = sys.stdout) -> tuple[int, float, str]:
    """Run a step, showing what it prints; its status, its seconds and its closing line."""
    print(f"\n=== {step.ring.name}: {step.ring.title} ===", file=output, flush=True)
    start = time.monotonic()
    status, closing = stream(step.command, step.database, output)
    return status, time.monotonic() - start, closing


def stream(command: Sequence[str], database: str, output: TextIO) -> tuple[int, str]:
    """Run a command and pass its output on as it comes; its status and its closing line."""
    environment = {DATA_VARIABLE: data_folder(), **os.environ, DATABASE_VARIABLE: database}
    closing = ""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", file=output, flush=True)
            if CLOSING.search(line):
                closing = line.strip().strip("= ")
    return process.returncode, closing


def data_folder() -> str:
    """Where the databases live: in memory if there is room, else (empty) where the system says."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return str(MEMORY) if roomy and os.access(MEMORY, os.W_OK) else ""


def summary(results: Sequence[Result]) -> str:
    """The table at the end."""
    lines = ["", "=== summary ==="]
    for result in results:
        left_out = result.verdict == "left out"
        numbers = result.ring.remedy if left_out else "; ".join(filter(None, result.numbers))
        head = f"{result.ring.name:<14}{result.verdict:<9}{result.seconds:6.1f} s"
        lines.append(f"{head}  {numbers}".rstrip())
    ran = [result.ring for result in results]
    skipped = [ring.name for ring in RINGS if ring not in ran and not ring.is_part]
    if skipped:
        lines.append(f"not asked for: {', '.join(skipped)} (`make test` runs every ring)")
    return "\n".join(lines)


def failed(results: Sequence[Result], *, strict: bool) -> bool:
    """Whether the run as a whole failed."""
    return any(result.verdict == "FAILED" or (strict and result.status) for result in results)


def main(arguments: Sequence[str]) -> int:
    """Run the rings that were asked for; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.rings", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="rings side by side (default: 1)")
    parser.add_argument("--strict", action="store_true", help="a ring left out is a failure")
    names = [ring.name for ring in RINGS]
    parser.add_argument("rings", nargs="*", metavar="RING", help=", ".join(names))
    own, rest = split(arguments)
    options = parser.parse_args(own)
    unknown = set(options.rings) - set(names)
    if unknown:
        parser.error(f"no such ring: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [ring for ring in RINGS if is_chosen(ring, options.rings)]
    results = run_all(chosen, rest, options.jobs)
    print(summary(results), flush=True)
    return int(failed(results, strict=options.strict))


def is_chosen(ring: Ring, names: Sequence[str]) -> bool:
    """Whether it is among those that were asked for; without names it is every whole ring."""
    return ring.name in names if names else not ring.is_part


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after ``--``."""
    position = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:position]), list(arguments[position + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
