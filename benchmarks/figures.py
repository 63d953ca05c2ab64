"""What the measurements share: kinds take turns, medians have a spread, ratios are of one run.

A section is a module with a command line. It prints its tables, and leaves its figures as JSON in
``docs/measured``, from which :mod:`benchmarks.plots` draws.
"""

import json
import os
import platform
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

#: Names another folder for figures that are not for the documentation.
FOLDER_VARIABLE = "BENCHMARK_FOLDER"
#: Where the documentation takes the figures from.
MEASURED = Path(
    os.environ.get(FOLDER_VARIABLE) or Path(__file__).parent.parent / "docs" / "measured"
)
#: Parts of a run whose ratios show how steady the whole one is.
BLOCKS = 20

#: Sends one request; how many seconds it took.
Ask = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the quartiles around it; seconds, or a ratio."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def timed(kinds: Mapping[str, Ask], rounds: int) -> dict[str, list[float]]:
    """The seconds of each kind, which take turns in an order that changes."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    names = list(kinds)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            seconds[name].append(kinds[name]())
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """The median of many values, and its quartiles."""
    low, _, high = quantiles(values, n=4)
    return Spread(median(values), low, high)


def ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """By how much the median exceeds the base's; its spread is that of parts of the run."""
    parts = [a / b for a, b in zip(_blocks(values), _blocks(base), strict=True)]
    low, _, high = quantiles(parts, n=4)
    return Spread(median(values) / median(base), low, high)


def _blocks(values: Sequence[float]) -> Iterator[float]:
    size = max(1, len(values) // BLOCKS)
    for first in range(0, len(values) - size + 1, size):
        yield median(values[first : first + size])


def circumstances(*packages: str, **servers: str) -> list[str]:
    """When and where it was measured, with what; for the first lines of a table."""
    parts = [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", f"Python {platform.python_version()}"]
    parts += [f"{package} {version(package)}" for package in ("Django", *packages)]
    parts += [f"{name} {told}" for name, told in servers.items()]
    load = os.getloadavg()[0]
    machine = f"{_processor()}, {os.cpu_count()} cores, load {load:.1f} at the start"
    return [", ".join(parts), machine]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def save(section: str, about: Sequence[str], figures: Any) -> None:
    """Leave the figures for the plots; ``figures`` may hold spreads."""
    text = json.dumps({"about": list(about), "figures": figures}, default=asdict, indent=1)
    (MEASURED / f"{section}.json").write_text(text + "\n")
