"""Where a request's CPU time goes: the functions that take most of it, for bare, fresh and replay.

``python -m benchmarks.profile`` sends each kind through our own site on PostgreSQL under cProfile,
in its own environment. That slows every call of a function down: read shares, not microseconds. The
number of calls that a request makes is the same in every run.
"""

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT, environment_of, variables
from benchmarks.figures import circumstances, save
from benchmarks.sites.contestants import CONTESTANTS, Contestant
from benchmarks.stores import database, redis

WARM = 50
INSIDE = "--inside"
#: Function, calls a request, own microseconds a request, share of the whole.
Line = tuple[str, float, float, float]


@dataclass(frozen=True, slots=True)
class Profile:
    """Own times of one kind of request; the functions that take most of it come first."""

    functions: Mapping[tuple[str, int, str], tuple[float, float]]

    @classmethod
    def of(cls, ask: Callable[[], object], count: int) -> "Profile":
        """Profile ``count`` requests after some that warm up."""
        for _ in range(WARM):
            ask()
        # Who waits for the database, or for another process, takes nothing.
        profiler = cProfile.Profile(time.process_time)
        for _ in range(count):
            profiler.runcall(ask)
        stats: Any = pstats.Stats(profiler)
        functions = stats.stats.items()
        return cls({name: (told[1] / count, told[2] / count) for name, told in functions})

    @property
    def calls(self) -> float:
        """Of functions, a request."""
        return sum(calls for calls, _ in self.functions.values())

    @property
    def seconds(self) -> float:
        """A request's."""
        return sum(own for _, own in self.functions.values())

    def top(self, count: int) -> list[Line]:
        """The first lines."""
        items = sorted(self.functions.items(), key=lambda item: -item[1][1])[:count]
        return [(_name(name), calls, own * 1e6, own / self.seconds) for name, (calls, own) in items]

    def packages(self) -> dict[str, float]:
        """The share of each package."""
        shares: defaultdict[str, float] = defaultdict(float)
        for (file, _, function), (_, own) in self.functions.items():
            shares[_package(file, function)] += own / self.seconds
        return dict(sorted(shares.items(), key=lambda item: -item[1])[:8])

    def figures(self) -> dict[str, Any]:
        """What the documentation keeps."""
        return {"calls": self.calls, "packages": self.packages(), "top": self.top(10)}


def _package(file: str, function: str) -> str:
    """What a function belongs to; those in C tell by their names, if at all."""
    if file == "~":
        return "psycopg" if "psycopg" in function else "built in"
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1].removesuffix(".py")
    known = ("django_idempotency", "benchmarks")
    return next((part for part in parts if part in known), "standard library")


def _name(name: tuple[str, int, str]) -> str:
    file, line, function = name
    if file == "~":
        return function
    place = "/".join(Path(file).parts[-2:])
    return f"{place}:{line} {function}"


def show(kind: str, profile: Profile) -> None:
    """The tables of one kind."""
    took = f"{profile.seconds * 1e6:.0f} us of CPU under the profiler"
    print(f"\n{kind}: {profile.calls:.0f} calls, {took}")
    for package, share in profile.packages().items():
        print(f"  {share:6.1%} {package}")
    print(f"  {'share':>6} {'own us':>7} {'calls':>6}  function")
    for name, calls, own, share in profile.top(10):
        print(f"  {share:6.1%} {own:7.1f} {calls:6.1f}  {name}")


def measure(count: int) -> None:
    """Each kind, in the process whose site it is."""
    import django

    django.setup()
    from benchmarks.sites.caller import Site

    about = circumstances("djangorestframework", "psycopg")
    print("\n".join(about))
    site, key = Site(), str(uuid.uuid4())
    site.ask(key)
    kinds: dict[str, Callable[[], object]] = {
        "bare": lambda: site.ask(None),
        "fresh": lambda: site.ask(str(uuid.uuid4())),
        "replay": lambda: site.ask(key),
    }
    profiles = {kind: Profile.of(ask, count) for kind, ask in kinds.items()}
    for kind, profile in profiles.items():
        show(kind, profile)
    save("profile", about, {kind: profile.figures() for kind, profile in profiles.items()})


def start(contestant: Contestant, arguments: Sequence[str]) -> int:
    """Start the servers, and this module again in the contestant's environment."""
    command = [
        str(environment_of(contestant).python),
        "-m",
        "benchmarks.profile",
        INSIDE,
        *arguments,
    ]
    with redis(), database("postgresql") as address:
        settings = os.environ | variables(contestant, address)
        return subprocess.run(command, check=False, cwd=ROOT, env=settings).returncode


def main(arguments: Sequence[str]) -> int:
    """Parse, and profile."""
    ours = [name for name, contestant in CONTESTANTS.items() if contestant.is_ours]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--contestant", choices=ours, default="ours")
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if not options.inside:
        return start(CONTESTANTS[options.contestant], arguments)
    measure(options.requests)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
