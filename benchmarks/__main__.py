"""Runs the sections one after the other, and draws what they found.

``python -m benchmarks`` runs all of them, ``python -m benchmarks views flushes`` some, with
arguments for them after ``--``. What each one prints stays in ``docs/measured``. ``--quick`` only
proves that they run: its figures mean nothing, and go to ``.bench/quick``. A section that cannot
run here is left out, and the summary says so.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import wrk
from benchmarks.harness import FOLDER_VARIABLE, MEASURED
from tests.support.servers import UNAVAILABLE, MariaDB, PostgreSQL, ServerUnavailableError, Valkey

ROOT = Path(__file__).parent.parent
QUICK = ROOT / ".bench" / "quick"
#: The sections, and arguments with which they are over soon.
SECTIONS: Mapping[str, str] = {
    "views": "--rounds 3",
    "load": "--slices 3 --seconds 1 --connections 8",
    "storm": "--requests 500 --seconds 2",
    "flushes": "--rounds 20",
    "scale": "--rows 1000 10000 --rounds 20",
    "cleanup": "--rows 20000 --expired 10000 --seconds 3",
    "replays": "--rounds 50",
    "races": "--racers 16 --keys 50",
}
PLOTS = "plots"


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a section."""

    name: str
    status: int
    seconds: float

    @property
    def verdict(self) -> str:
        """``ok``, ``FAILED`` or ``left out``."""
        return {0: "ok", UNAVAILABLE: "left out"}.get(self.status, "FAILED")

    def __str__(self) -> str:
        return f"{self.name:<10}{self.verdict:<9}{self.seconds / 60:6.1f} min"


def run(name: str, arguments: Sequence[str], folder: Path) -> Ended:
    """Run one, and keep in the folder what it prints unless it was left out."""
    print(f"\n=== {name} ===", flush=True)
    began = time.monotonic()
    status, output = _run(name, arguments, folder)
    if status != UNAVAILABLE and name != PLOTS:
        told = f"$ make bench ONLY={name}" + (f' ARGS="{" ".join(arguments)}"' * bool(arguments))
        (folder / f"{name}.txt").write_text(f"{told}\n{output}")
    return Ended(name, status, time.monotonic() - began)


def _run(name: str, arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run one and pass on what it prints; its status, and all that it printed."""
    output = ""
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *arguments],
        cwd=ROOT,
        env=os.environ | {FOLDER_VARIABLE: str(folder), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            output += line
    return process.returncode, output


def missing() -> Iterator[str]:
    """What is not installed here, and how to get it."""
    for find in (wrk.program, MariaDB().find, PostgreSQL().find, Valkey().find):
        try:
            find()
        except ServerUnavailableError as error:
            yield f"MISSING: {error}"


def run_all(names: Sequence[str], arguments: Sequence[str], *, quick: bool) -> Iterator[Ended]:
    """The sections, then the plots."""
    folder = QUICK if quick else MEASURED
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        short = SECTIONS[name].split() if quick else []
        yield run(name, arguments or short, folder)
    yield run(PLOTS, ["--images", str(QUICK)] if quick else [], folder)


def main(arguments: Sequence[str]) -> int:
    """Run the sections that are asked for; 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only prove that they run")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:end])
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    names = options.sections or list(SECTIONS)
    ended = list(run_all(names, arguments[end + 1 :], quick=options.quick))
    print("\n=== summary ===", *ended, *missing(), sep="\n", flush=True)
    return int(any(each.verdict == "FAILED" for each in ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
