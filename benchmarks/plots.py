"""Draws the figures of the measurements: ``docs/measured/*.json`` to ``docs/images/bench-*.svg``.

``python -m benchmarks.plots`` draws what is there and says what is not.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.cards import (
    Lines,
    Spread,
    base,
    beside_bare,
    card,
    groups,
    legend,
    numbers,
    over,
    save,
    styled,
)
from benchmarks.figures import MEASURED

IMAGES = MEASURED.parent / "images"
#: Of all answers, more than which nobody is compared with anybody.
WRONG = 0.01

#: Of one measurement, from what it left: the name and the drawing of each plot.
Drawing = Callable[[Any], Iterator[tuple[str, Figure]]]


def of_views(figures: Any) -> Iterator[tuple[str, Figure]]:
    """A plot for each database."""
    for database, found in figures.items():
        panels = {
            kind: {name: view_ratio(its["kinds"][kind]) for name, its in found.items()}
            for kind in ("fresh", "replay", "conflict")
        }
        if found:
            title = f"Time of a request in one process, of the bare view's: {database}"
            yield f"views-{database}", beside_bare(title, panels, "less is better")


def view_ratio(its: Any) -> Spread | str:
    """Or what was wrong."""
    found: Spread | str = its["wrong"] if "wrong" in its else its["wall_ratio"]
    return found


def of_load(figures: Any) -> Iterator[tuple[str, Figure]]:
    """A plot for each number of connections."""
    for connections, found in figures.items():
        panels = {
            kind: {name: load_ratio(kinds[kind]) for name, kinds in found.items()}
            for kind in ("fresh", "replay")
        }
        title = f"Orders a second over {connections} connections, of those to the bare view"
        yield f"load-{connections}", beside_bare(title, panels, "more is better")


def load_ratio(its: Any) -> Spread | str:
    """Or how much was wrong, and mostly in which way."""
    wrong = its["wrong"]
    if sum(wrong.values()) > WRONG * its["answers"]:
        worst = max(wrong, key=wrong.get)
        # What was on its way when a slice ended is counted by the database alone.
        return f"{min(1.0, wrong[worst] / its['answers']):.0%} {worst}"
    found: Spread = its["ratio"]
    return found


def of_storm(figures: Any) -> Iterator[tuple[str, Figure]]:
    """What other orders took before, during and after each storm."""
    storms = figures["storms"]
    figure, axes = card("Other orders beside a storm of duplicates", 3 * len(storms), ncols=2)
    for axis, part in zip(axes, ("p50", "p99"), strict=True):
        axis.set_title(f"{part}, ms")
        axis.set_xscale("log")
        groups(axis, {storm["name"]: phases(storm, part) for storm in storms}, "{:.0f}")
        axis.margins(x=0.15)
        numbers(axis.xaxis)
    axes[1].set_yticklabels([])
    legend(figure, axes[0])
    yield "storm", figure


def phases(storm: Any, part: str) -> dict[str, Spread]:
    """A percentile of each, in milliseconds."""
    return {phase: alone(storm[phase][part] * 1000) for phase in ("before", "during", "after")}


def alone(value: float) -> Spread:
    """One that was measured once."""
    return {"median": value, "low": value, "high": value}


def of_flushes(figures: Any) -> Iterator[tuple[str, Figure]]:
    """The ratios where flushes or round trips take longer, on PostgreSQL."""
    if "postgresql" not in figures:
        return
    found = figures["postgresql"]
    rows = {
        f"flush + {delay} ms" if delay != "0" else "as it is": of_kinds(kinds)
        for delay, kinds in found["slow_flush"].items()
    }
    network = found["network"]
    rows[f"round trip + {network['added_ms']:.1f} ms"] = of_kinds(network["kinds"])
    figure, (axis,) = card("Time of a request, of the bare view's", 3 * len(rows))
    axis.grid(axis="x")
    groups(axis, rows, "{:.2f}")
    base(axis.axvline)
    axis.set_xlabel("less is better; dashed: the bare view")
    legend(figure, axis)
    yield "flushes", figure


def of_kinds(kinds: Any) -> dict[str, Spread]:
    """Ratios of all but the bare one."""
    return {kind: its["ratio"] for kind, its in kinds.items() if kind != "bare"}


def of_scale(figures: Any) -> Iterator[tuple[str, Figure]]:
    """Requests over the records of the table, and tables over cycles of clean-up."""
    panels = {
        unit: {
            kind: [(int(rows), its[name]) for rows, its in sizes.items()]
            for kind, sizes in figures["times"].items()
        }
        for name, unit in (("ms", "ms"), ("ratio", "of the smallest table's"))
    }
    title = "Time of a request, by the size of the table"
    yield "scale", over(title, panels, "records in the table", log=True)
    yield "bloat", over("Size after each clean-up", sizes_of(figures["bloat"]), "cycle", log=False)


def sizes_of(bloat: Any) -> dict[str, Lines]:
    """The table's and its indexes', in megabytes, with either settings."""
    return {
        f"{what}, MB": {
            settings.replace("_", " "): [
                (number, alone(its[f"{what}_bytes"] / 1e6)) for number, its in enumerate(cycles, 1)
            ]
            for settings, cycles in bloat.items()
        }
        for what in ("table", "index")
    }


DRAWINGS: Mapping[str, Drawing] = {
    "views": of_views,
    "load": of_load,
    "storm": of_storm,
    "flushes": of_flushes,
    "scale": of_scale,
}


def draw(section: str, source: Path, images: Path) -> None:
    """Draw all plots of one measurement."""
    for name, figure in DRAWINGS[section](json.loads(source.read_text())["figures"]):
        target = images / f"bench-{name}.svg"
        save(figure, target)
        print(f"drew {target.name}")


def main(arguments: Sequence[str]) -> int:
    """Draw what there is."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    parser.add_argument("--images", type=Path, default=IMAGES, help="the folder to draw into")
    options = parser.parse_args(arguments)
    for section in DRAWINGS:
        source = MEASURED / f"{section}.json"
        if source.exists():
            with styled():
                draw(section, source, options.images)
        else:
            print(f"not measured: {section}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
