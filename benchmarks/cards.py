"""What the plots look like: bars and lines on a white card, since the page around may be dark.

Text stays text, which can be searched and read aloud, and the same figures make the same file.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.sites.contestants import CONTESTANTS

INK, FAINT, OURS, OTHERS, BROKEN = "#1f2933", "#c4ccd6", "#0b7a5b", "#7b8aa0", "#d9a441"
#: Of lines and of groups of bars, in their order.
COLOURS = (OURS, "#3d6fb6", BROKEN, "#a34a64", OTHERS)
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "django-idempotency",
    "font.family": "sans-serif",
    "font.size": 10,
    "figure.labelsize": 10,
    "figure.titlesize": 11,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": "#e8ecf1",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
INCHES_WIDE, INCHES_A_BAR, INCHES_AROUND = 9.0, 0.3, 1.2

#: A median and its quartiles, as :class:`benchmarks.figures.Spread` leaves them.
Spread = Mapping[str, float]
#: One panel of bars: each one's name and length, or why there is none.
Panel = Mapping[str, Spread | str]
#: One panel of lines: each one's name and points.
Lines = Mapping[str, Sequence[tuple[float, Spread]]]


def styled() -> Any:
    """The context in which cards are made and saved."""
    return rc_context(STYLE)


def save(figure: Figure, target: Path) -> None:
    """As SVG, without the date."""
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})


def card(title: str, bars: int, **subplots: Any) -> tuple[Figure, Sequence[Axes]]:
    """A figure as high as so many bars, and its panels."""
    figure = Figure(figsize=(INCHES_WIDE, INCHES_AROUND + INCHES_A_BAR * bars))
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure, list(figure.subplots(squeeze=False, **subplots).flat)


def colour(contestant: str) -> str:
    """Ours, another's, that of one who can have more than one effect, or the floor's."""
    if contestant not in CONTESTANTS or CONTESTANTS[contestant].is_floor:
        return FAINT
    known = CONTESTANTS[contestant]
    if known.is_ours:
        return OURS
    return OTHERS if known.one_effect else BROKEN


def beside_bare(title: str, panels: Mapping[str, Panel], better: str) -> Figure:
    """Ratios to the bare view, a panel for each kind, a bar for each contestant."""
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    figure, axes = card(title, len(names), ncols=len(panels), sharey=True)
    for axis, (kind, panel) in zip(axes, panels.items(), strict=True):
        axis.set_title(kind)
        axis.grid(axis="x")
        for row, name in enumerate(names):
            bar(axis, row, panel[name], colour(name))
        base(axis.axvline)
        axis.set_xlim(0, 1.25 * max(1.0, *map(end, panel.values())))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    figure.supxlabel(f"{better}; dashed: the bare view; amber: can have more than one effect")
    return figure


def end(length: Spread | str) -> float:
    """Of a bar and its quartiles."""
    return 0.0 if isinstance(length, str) else max(length.values())


def base(line: Any) -> None:
    """Where a bare view is."""
    line(1, color=INK, linewidth=1, linestyle=(0, (4, 2)))


def bar(axis: Axes, row: float, length: Spread | str, paint: str) -> None:
    """A bar with its quartiles and the median as text, or what stands in its place."""
    if isinstance(length, str):
        return text(axis, length, 0, row)
    middle = length["median"]
    axis.barh(row, middle, color=paint, **quartiles(length))
    return text(axis, f"{middle:.2f}", end(length), row)


def groups(axis: Axes, rows: Mapping[str, Mapping[str, Spread]], words: str) -> None:
    """A group of thin bars for each row, a colour for each name in it; ``words`` format them."""
    for row, (_, lengths) in enumerate(rows.items()):
        for number, ((name, length), paint) in enumerate(
            zip(lengths.items(), COLOURS, strict=False)
        ):
            place = row + (number - (len(lengths) - 1) / 2) * 0.8 / len(lengths)
            axis.barh(
                place,
                length["median"],
                height=0.7 / len(lengths),
                color=paint,
                label=name if row == 0 else None,
                **quartiles(length),
            )
            text(axis, words.format(length["median"]), end(length), place)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()


def legend(figure: Figure, axis: Axes) -> None:
    """Below all panels."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def quartiles(spread: Spread) -> dict[str, Any]:
    """How a bar shows them, if it has some."""
    sides = around(spread)
    style = {"ecolor": INK, "capsize": 2}
    return {"xerr": [[side] for side in sides], "error_kw": style} if any(sides) else {}


def around(spread: Spread) -> tuple[float, float]:
    """How far the quartiles are: the median of a whole run can lie outside those of its parts."""
    return (
        max(0.0, spread["median"] - spread["low"]),
        max(0.0, spread["high"] - spread["median"]),
    )


def text(axis: Axes, words: str, x: float, y: float) -> None:
    """Right of a point."""
    axis.annotate(words, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=9)


def plain(value: float, _: object = None) -> str:
    """A number on an axis: 10000 as 10,000."""
    return f"{value:,.10g}"


def numbers(axis: Any) -> None:
    """No powers of ten on a logarithmic axis."""
    axis.set_major_formatter(FuncFormatter(plain))


def over(title: str, panels: Mapping[str, Lines], across: str, *, log: bool) -> Figure:
    """Lines, a panel for each unit, over what grows."""
    figure, axes = card(title, 9, ncols=len(panels))
    for axis, (unit, lines) in zip(axes, panels.items(), strict=True):
        axis.set_title(unit)
        axis.grid(visible=True)
        if log:
            axis.set_xscale("log")
        else:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for paint, (name, points) in zip(COLOURS, lines.items(), strict=False):
            reach = list(zip(*(around(spread) for _, spread in points), strict=True))
            at, middle = [x for x, _ in points], [spread["median"] for _, spread in points]
            axis.errorbar(at, middle, reach, color=paint, label=name, marker="o", capsize=2)
        axis.set_ylim(bottom=0)
        axis.set_xlabel(across)
        numbers(axis.xaxis)
    legend(figure, axes[0])
    return figure
