"""Draws the figures of the sections: ``docs/measured/*.json`` to ``docs/images/bench-*.svg``.

``python -m benchmarks.plots`` draws what there is and says what there is not.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.harness import MEASURED
from benchmarks.sites.contestants import CONTESTANTS

STYLE = Path(__file__).with_name("card.mplstyle")
INK, OURS, OTHERS, BROKEN = "#1f2933", "#0b7a5b", "#7b8aa0", "#d9a441"
#: Of the bars of a group, and of lines, in their order.
COLOURS = (OURS, "#3d6fb6", BROKEN)
INCHES_WIDE, INCHES_A_BAR, INCHES_AROUND = 9.0, 0.3, 1.2
#: A contestant with a larger share of wrong answers has no bar.
WRONG = 0.01

#: A median and its quartiles, or why there is none.
Length = Mapping[str, float] | str
#: The bars of a panel: in each row one or several, by their names.
Rows = Mapping[str, Mapping[str, Length]]
#: What a section's figures become: the name and the drawing of each plot.
Drawing = Callable[[Any], Iterator[tuple[str, Figure]]]


def of_views(figures: Any) -> Iterator[tuple[str, Figure]]:
    """A plot for each database."""
    for database, found in figures.items():
        panels = {
            kind: {
                name: its["kinds"][kind].get("wall_ratio") or its["kinds"][kind]["wrong"]
                for name, its in found.items()
            }
            for kind in ("fresh", "replay", "conflict")
        }
        if found:
            title = f"Time of a request in one process, of the bare view's: {database}"
            yield f"views-{database}", beside_bare(title, panels, "less is better")


def of_load(figures: Any) -> Iterator[tuple[str, Figure]]:
    """A plot for each number of connections."""
    for connections, found in figures.items():
        panels = {
            kind: {name: load_ratio(kinds[kind]) for name, kinds in found.items()}
            for kind in ("fresh", "replay")
        }
        title = f"Orders a second over {connections} connections, of those to the bare view"
        yield f"load-{connections}", beside_bare(title, panels, "more is better")


def load_ratio(its: Any) -> Length:
    """Or how much was wrong, and mostly in which way."""
    wrong = its["wrong"]
    if sum(wrong.values()) > WRONG * its["answers"]:
        worst = max(wrong, key=wrong.get)
        # Only the database counts the requests that had no answer when a slice ended.
        return f"{min(1.0, wrong[worst] / its['answers']):.0%} {worst}"
    found: Length = its["ratio"]
    return found


def of_storm(figures: Any) -> Iterator[tuple[str, Figure]]:
    """What other orders took before, during and after each storm."""
    phases = ("before", "during", "after")
    storms = figures["storms"]
    figure, axes = card("Other orders beside a storm of duplicates", 3 * len(storms), ncols=2)
    for axis, part in zip(axes, ("p50", "p99"), strict=True):
        axis.set_title(f"{part}, ms")
        axis.set_xscale("log")
        rows = {
            storm["name"]: {phase: exactly(storm[phase][part]) for phase in phases}
            for storm in storms
        }
        bars(axis, rows, "{:.0f}")
        axis.margins(x=0.15)
        axis.xaxis.set_major_formatter("{x:,.0f}")
    axes[1].set_yticklabels([])
    legend(figure, phases)
    yield "storm", figure


def exactly(value: float) -> Length:
    """What was measured once has no quartiles."""
    return {"median": value, "low": value, "high": value}


def of_flushes(figures: Any) -> Iterator[tuple[str, Figure]]:
    """The ratios where flushes take longer."""
    rows = {
        name: {kind: its["ratio"] for kind, its in kinds.items() if kind != "bare"}
        for name, kinds in figures.items()
    }
    figure, (axis,) = card("Time of a request, of the bare view's", 2 * len(rows))
    bars(axis, rows, "{:.2f}")
    bare(axis)
    axis.set_xlabel("less is better; dashed: the bare view")
    legend(figure, next(iter(rows.values())))
    yield "flushes", figure


def of_scale(figures: Any) -> Iterator[tuple[str, Figure]]:
    """Requests over the records of the table."""
    times = figures["times"]
    figure, axes = card("Time of a request, by the size of the table", 9, ncols=2)
    for axis, (name, unit) in zip(
        axes, {"ms": "ms", "ratio": "of the smallest table's"}.items(), strict=True
    ):
        axis.set_title(unit)
        axis.grid(visible=True)
        axis.set_xscale("log")
        for colour, sizes in zip(COLOURS, times.values(), strict=True):
            line(axis, {int(rows): its[name] for rows, its in sizes.items()}, colour)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("records in the table")
        axis.xaxis.set_major_formatter("{x:,.0f}")
    legend(figure, times)
    yield "scale", figure


DRAWINGS: Mapping[str, Drawing] = {
    "views": of_views,
    "load": of_load,
    "storm": of_storm,
    "flushes": of_flushes,
    "scale": of_scale,
}


def card(title: str, count: int, **subplots: Any) -> tuple[Figure, Sequence[Axes]]:
    """A figure as high as so many bars, and its panels."""
    figure = Figure(figsize=(INCHES_WIDE, INCHES_AROUND + INCHES_A_BAR * count))
    figure.suptitle(title, x=0.01, ha="left")
    return figure, list(figure.subplots(squeeze=False, **subplots).flat)


def beside_bare(title: str, panels: Mapping[str, Mapping[str, Length]], better: str) -> Figure:
    """Ratios to the bare view: a panel for each kind, a bar for each contestant."""
    names = next(iter(panels.values()))
    figure, axes = card(title, len(names), ncols=len(panels), sharey=True)
    for axis, (kind, lengths) in zip(axes, panels.items(), strict=True):
        axis.set_title(kind)
        bars(axis, {name: {name: length} for name, length in lengths.items()}, "{:.2f}")
        bare(axis)
        axis.set_xlim(0, 1.25 * max(1.0, *map(end, lengths.values())))
    figure.supxlabel(f"{better}; dashed: the bare view; amber: can have more than one effect")
    return figure


def colour_of(name: str, number: int) -> str:
    """A contestant's: ours, another's, or one that can have more than one effect. Or a bar's."""
    if name not in CONTESTANTS:
        return COLOURS[number]
    contestant = CONTESTANTS[name]
    if contestant.is_ours:
        return OURS
    return OTHERS if contestant.one_effect else BROKEN


def bars(axis: Axes, rows: Rows, words: str) -> None:
    """A row for each name, with one bar or several thin ones; ``words`` format their lengths."""
    for row, lengths in enumerate(rows.values()):
        height = 0.8 / len(lengths)
        for number, (name, length) in enumerate(lengths.items()):
            place = row + (number - (len(lengths) - 1) / 2) * height
            if not isinstance(length, str):
                bar(axis, place, 0.9 * height, length, colour_of(name, number))
            label = length if isinstance(length, str) else words.format(length["median"])
            axis.annotate(
                label, (end(length), place), (4, 0), textcoords="offset points", va="center"
            )
    axis.set_yticks(range(len(rows)), list(rows))
    if not axis.yaxis_inverted():
        axis.invert_yaxis()


def bar(axis: Axes, place: float, height: float, length: Mapping[str, float], colour: str) -> None:
    """A bar, with its quartiles if it has some."""
    low, high = around(length)
    quartiles: dict[str, Any] = (
        {"xerr": [[low], [high]], "ecolor": INK, "capsize": 2} if low or high else {}
    )
    axis.barh(place, length["median"], height=height, color=colour, **quartiles)


def line(axis: Axes, points: Mapping[int, Mapping[str, float]], colour: str) -> None:
    """A line through medians, with their quartiles."""
    medians = [point["median"] for point in points.values()]
    reach = list(zip(*map(around, points.values()), strict=True))
    axis.errorbar(list(points), medians, reach, color=colour, marker="o", capsize=2)


def around(length: Mapping[str, float]) -> tuple[float, float]:
    """How far the quartiles are: the median of a whole run can lie outside those of its parts."""
    middle = length["median"]
    return max(0.0, middle - length["low"]), max(0.0, length["high"] - middle)


def end(length: Length) -> float:
    """Where a bar and its quartiles end."""
    return 0.0 if isinstance(length, str) else max(length.values())


def bare(axis: Axes) -> None:
    """Mark where the bare view is."""
    axis.grid(axis="x")
    axis.axvline(1, color=INK, linewidth=1, linestyle=(0, (4, 2)))


def legend(figure: Figure, names: Iterable[str]) -> None:
    """Say below all panels which colour is what."""
    handles = [
        Patch(color=colour_of(name, number), label=name) for number, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def draw(section: str, source: Path, images: Path) -> None:
    """Draw all plots of a section."""
    for name, figure in DRAWINGS[section](json.loads(source.read_text())["figures"]):
        target = images / f"bench-{name}.svg"
        # Without the date: what is drawn again is the same file.
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
        print(f"drew {target.name}")


def main() -> None:
    """Draw what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, default=MEASURED.parent / "images")
    images = parser.parse_args().images
    for section in DRAWINGS:
        source = MEASURED / f"{section}.json"
        if source.exists():
            with style.context(STYLE):
                draw(section, source, images)
        else:
            print(f"not measured: {section}")


if __name__ == "__main__":
    main()
