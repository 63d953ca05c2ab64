"""Runs the rings of proof one after the other and says at the end what each of them found.

``python -m tests.rings`` runs all of them, ``python -m tests.rings sqlite -- -k replay`` one, with
arguments for pytest. A ring that cannot run here is left out, loudly; ``--strict`` makes that a
failure.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import DATABASE_VARIABLE, UNAVAILABLE

ROOT = Path(__file__).parent.parent
PYTEST = (sys.executable, "-m", "pytest")
TOX = (sys.executable, "-m", "tox", "--quiet", "run", "-e")
LAYERS = (str(Path(sys.executable).with_name("lint-imports")), "--no-logo")

# A tool's own closing line, the numbers of a ring.
CLOSING = re.compile(
    r"\d+ (passed|failed|errors?|skipped|deselected|xfailed)\b"
    r"|^Found \d+ errors?|^Success: |^Contracts: |\d+ files? (already|would be)|^\d+ checks hold"
)


@dataclass(frozen=True)
class Ring:
    """One ring: its name, what it proves, and the commands that do."""

    name: str
    title: str
    commands: tuple[tuple[str, ...], ...]
    database: str = "sqlite"
    takes_arguments: bool = False
    remedy: str = ""


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
    Ring("sqlite", "the suite on SQLite", (PYTEST,), takes_arguments=True),
    Ring(
        "postgresql",
        "the suite on PostgreSQL",
        ((sys.executable, "-m", "tests.servers", "--", *PYTEST),),
        takes_arguments=True,
        remedy="the reason stands above; network access to PyPI, or the libraries PostgreSQL needs "
        "(see .ci/run)",
    ),
    Ring("base", "the suite without DRF and django-redis", ((*TOX, "base"),)),
    Ring("dist", "the wheel in an empty environment", ((*TOX, "dist"),)),
)


def run(ring: Ring, arguments: Sequence[str]) -> Result:
    """Run a ring's commands until one fails, showing what they print."""
    result = Result(ring)
    print(f"\n=== {ring.name}: {ring.title} ===", flush=True)
    start = time.monotonic()
    for command in ring.commands:
        extra = arguments if ring.takes_arguments else ()
        result.status = stream([*command, *extra], ring.database, result.numbers)
        if result.status:
            break
    result.seconds = time.monotonic() - start
    return result


def stream(command: Sequence[str], database: str, numbers: list[str]) -> int:
    """Run a command, pass its output on as it comes and collect the closing lines in it."""
    environment = {**os.environ, DATABASE_VARIABLE: database}
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
            print(line, end="", flush=True)
            if CLOSING.search(line):
                numbers[:] = [line.strip().strip("= ")]
    return process.returncode


def summary(results: Sequence[Result]) -> str:
    """The table at the end."""
    lines = ["", "=== summary ==="]
    for result in results:
        numbers = "; ".join(result.numbers) if result.verdict != "left out" else result.ring.remedy
        head = f"{result.ring.name:<11}{result.verdict:<9}{result.seconds:6.1f} s"
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
    parser.add_argument("--strict", action="store_true", help="a ring left out is a failure")
    names = [ring.name for ring in RINGS]
    parser.add_argument("rings", nargs="*", metavar="RING", help=", ".join(names))
    own, rest = split(arguments)
    options = parser.parse_args(own)
    unknown = set(options.rings) - set(names)
    if unknown:
        parser.error(f"no such ring: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    chosen = [ring for ring in RINGS if not options.rings or ring.name in options.rings]
    results = [run(ring, rest) for ring in chosen]
    print(summary(results), flush=True)
    return int(failed(results, strict=options.strict))


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after ``--``."""
    position = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:position]), list(arguments[position + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
