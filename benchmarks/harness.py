"""What all sections share: the command line, requests that take turns, statistics and tables.

A section is a module that gives its ``measure`` to :func:`main`. It prints tables; the figures that
:mod:`benchmarks.plots` draws are left as JSON in ``docs/measured``.
"""

import argparse
import inspect
import json
import os
import platform
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from statistics import median, quantiles
from typing import Any, TypeVar

from tests.support.servers import UNAVAILABLE, ServerUnavailableError

#: Names another folder for figures that are not for the documentation.
FOLDER_VARIABLE = "BENCHMARK_FOLDER"
#: Where the documentation takes the figures from.
MEASURED = Path(
    os.environ.get(FOLDER_VARIABLE) or Path(__file__).parent.parent / "docs" / "measured"
)
#: Parts of a run whose ratios show how steady the whole run is.
BLOCKS = 20

#: Sends one request; returns the seconds it took.
Ask = Callable[[], float]
#: What a kind of request is called.
Kind = TypeVar("Kind")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a section found: whether all answers were right, and figures if a plot shows them."""

    is_right: bool
    figures: Any = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def main(measure: Callable[..., Outcome], *packages: str) -> None:
    """Run a section and exit, with 1 if an answer was wrong.

    The keyword arguments of ``measure`` are the options of the command line. ``packages`` are those
    whose versions stand at the head of the output.
    """
    options = _options(measure)
    about = circumstances(*packages)
    print(*about, sep="\n", flush=True)
    try:
        outcome = measure(**vars(options))
    except ServerUnavailableError as error:
        print(f"NOT MEASURED: {error}", file=sys.stderr)
        sys.exit(UNAVAILABLE)
    if outcome.figures is not None:
        _save(Path(sys.argv[0]).stem, about, outcome.figures)
    sys.exit(int(not outcome.is_right))


def _options(measure: Callable[..., Outcome]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=sys.modules[measure.__module__].__doc__)
    for name, parameter in inspect.signature(measure).parameters.items():
        default = parameter.default
        if isinstance(default, tuple):
            parser.add_argument(f"--{name}", nargs="+", type=type(default[0]), default=default)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


def _save(section: str, about: Sequence[str], figures: Any) -> None:
    text = json.dumps({"about": list(about), "figures": figures}, default=asdict, indent=1)
    (MEASURED / f"{section}.json").write_text(text + "\n")


def circumstances(*packages: str) -> list[str]:
    """When and where it is measured, and with which versions."""
    parts = [f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", f"Python {platform.python_version()}"]
    parts += [f"{package} {version(package)}" for package in ("Django", *packages)]
    load = os.getloadavg()[0]
    machine = f"{_processor()}, {os.cpu_count()} cores, load {load:.1f} at the start"
    return [", ".join(parts), machine]


def _processor() -> str:
    """What Linux says, or else the kind of machine."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def timed(kinds: Mapping[Kind, Ask], rounds: int) -> dict[Kind, list[float]]:
    """The seconds of each kind of request; the kinds take turns in an order that changes."""
    seconds: dict[Kind, list[float]] = {name: [] for name in kinds}
    names = list(kinds)
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            seconds[name].append(kinds[name]())
    return seconds


def spread(values: Sequence[float]) -> Spread:
    """The median of many values, and their quartiles."""
    low, _, high = quantiles(values, n=4)
    return Spread(median(values), low, high)


def milliseconds(seconds: Sequence[float]) -> Spread:
    """The same of times in seconds, in milliseconds."""
    return spread([each * 1000 for each in seconds])


def ratio(values: Sequence[float], base: Sequence[float]) -> Spread:
    """The median divided by that of ``base``; the quartiles are those of parts of the run."""
    parts = [a / b for a, b in zip(_blocks(values), _blocks(base), strict=True)]
    low, _, high = quantiles(parts, n=4)
    return Spread(median(values) / median(base), low, high)


def _blocks(values: Sequence[float]) -> Iterator[float]:
    size = max(1, len(values) // BLOCKS)
    for first in range(0, len(values) - size + 1, size):
        yield median(values[first : first + size])


def compared(seconds: Mapping[str, Sequence[float]], base: str) -> dict[str, dict[str, Spread]]:
    """Milliseconds of each kind of request, and their ratio to the kind that is called ``base``."""
    return {
        kind: {"ms": milliseconds(values), "ratio": ratio(values, seconds[base])}
        for kind, values in seconds.items()
    }


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """The 50th, 95th and 99th percentile, in milliseconds, and the longest."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    found = {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "max": max(seconds)}
    return {name: value * 1000 for name, value in found.items()}


def told(seconds: Sequence[float]) -> str:
    """The percentiles as text."""
    return "  ".join(f"{name} {value:7.2f}" for name, value in percentiles(seconds).items())


def print_table(heads: Sequence[object], rows: Iterable[Sequence[object]]) -> None:
    """Print a table whose first column is aligned left, and all others right."""
    lines = [[str(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    print()
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip(), flush=True)
