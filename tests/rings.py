"""Runs the rings of proof and says at the end what each of them found.

``python -m tests.rings`` runs all of them, ``python -m tests.rings sqlite -- -k replay`` one, with
arguments for pytest. A ring that cannot run here is left out, loudly; ``--strict`` makes that a
failure.
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
from tests.servers import DATABASE_VARIABLE, UNAVAILABLE, mariadb, pgbouncer
from tests.servers.folders import DATA_VARIABLE

ROOT = Path(__file__).parent.parent
PYTEST = (sys.executable, "-m", "pytest")
SERVERS = (sys.executable, "-m", "tests.servers", "--database")
# The browser has a ring of its own.
ON_SQLITE = (*PYTEST, "--ignore=tests/browser")
# What no database has a part in is proved once, in the ring sqlite.
ONCE = (
    *("clients", "test_chaos.py", "test_docs.py", "test_mutants.py", "test_openapi.py"),
    *("test_pytest_plugin.py", "test_servers.py", "test_translations.py"),
)
SUITE = (*ON_SQLITE, *(f"--ignore=tests/{name}" for name in ONCE))
#: Those in which the mode of a database matters most.
RACES = (*PYTEST, "tests/concurrency/test_racers.py", "tests/crash/test_kills.py")
HAMMER = (sys.executable, "-m", "tests.chaos", "--seconds", "60", "--database")
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
    #: Whether it needs the machine for itself.
    alone: bool = False


@dataclass
class Result:
    """What became of a ring."""

    ring: Ring
    status: int = 0
    seconds: float = 0.0
    numbers: list[str] = field(default_factory=list)

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
    # The longest first, so that they end together.
    Ring(
        "mariadb",
        "the suite on MariaDB",
        ((*SERVERS, "mariadb", "--", *SUITE),),
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
    Ring("sqlite", "the suite on SQLite", (ON_SQLITE,), takes_arguments=True),
    Ring(
        "sqlite-modes",
        "races and crashes in SQLite's other modes",
        (RACES,),
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
                *(*SERVERS, "pgbouncer", "--", *RACES, "tests/contract", "--reuse-db"),
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
    Ring(
        "hammer",
        "60 s of faults on each database (make chaos takes longer)",
        ((*HAMMER, "sqlite"), (*HAMMER, "postgresql"), (*HAMMER, "mariadb")),
        remedy=mariadb.REMEDY,
        alone=True,
    ),
    Ring("base", "the contract without DRF and django-redis", ((*TOX, "base"),)),
    Ring("dist", "the wheel in an empty environment", ((*TOX, "dist"),)),
)


def run_all(rings: Sequence[Ring], arguments: Sequence[str], jobs: int) -> list[Result]:
    """Run rings side by side, each showing what it printed when it is done."""
    results: dict[str, Result] = {}

    def quietly(ring: Ring) -> None:
        print(f"... {ring.name} begins", flush=True)
        output = StringIO()
        results[ring.name] = run(ring, arguments, output)
        print(output.getvalue(), end="", flush=True)

    together = [ring for ring in rings if jobs > 1 and not ring.alone]
    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(quietly, together))
    for ring in rings:
        if ring not in together:
            results[ring.name] = run(ring, arguments, sys.stdout)
    return [results[ring.name] for ring in rings]


def run(ring: Ring, arguments: Sequence[str], output: TextIO) -> Result:
    """Run a ring's commands until one fails, showing what they print."""
    result = Result(ring)
    print(f"\n=== {ring.name}: {ring.title} ===", file=output, flush=True)
    start = time.monotonic()
    extra = arguments if ring.takes_arguments else ()
    for database, command in product(ring.databases, ring.commands):
        result.status, closing = stream([*command, *extra], database, output)
        result.numbers.append(closing)
        if result.status:
            break
    result.seconds = time.monotonic() - start
    return result


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
    skipped = [ring.name for ring in RINGS if ring not in [result.ring for result in results]]
    if skipped:
        lines.append(f"not asked for: {', '.join(skipped)} (`make test` runs every ring)")
    return "\n".join(lines)


def failed(results: Sequence[Result], *, strict: bool) -> bool:
    """Whether the run as a whole failed."""
    return any(result.verdict == "FAILED" or (strict and result.status) for result in results)


def main(arguments: Sequence[str]) -> int:
    """Run the rings that were asked for; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.rings", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1, help="rings side by side (default: 1)")
    parser.add_argument("--strict", action="store_true", help="a ring left out is a failure")
    names = [ring.name for ring in RINGS]
    parser.add_argument("rings", nargs="*", metavar="RING", help=", ".join(names))
    own, rest = split(arguments)
    options = parser.parse_args(own)
    unknown = set(options.rings) - set(names)
    if unknown:
        parser.error(f"no such ring: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [ring for ring in RINGS if not options.rings or ring.name in options.rings]
    results = run_all(chosen, rest, options.jobs)
    print(summary(results), flush=True)
    return int(failed(results, strict=options.strict))


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after ``--``."""
    position = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:position]), list(arguments[position + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
