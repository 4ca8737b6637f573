"""The page's plots as PNG bytes: quality against waiting time (Compare tab), and the timed runs (Device tab).

Drawn by Matplotlib without a display.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agedit.compat import import_matplotlib
from agedit.selection.cost_model import frontier
from agedit.selection.times import Candidate, Times
from agedit.submodel import label, work
from ui.plain_text import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#27272a"
QUIET = "#a1a1aa"
GRID = "#e4e4e7"
CHOSEN = "#4f46e5"
OTHERS = ("#0891b2", "#d97706", "#be185d", "#15803d")
LIMIT = "#dc2626"
"""Colour of the budget's line."""

LONGEST_LABEL = 40
"""Characters of a device's name in a legend."""

DOTS_PER_INCH = 150
TICKS = (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000)
"""Milliseconds that an axis may name."""

APART = 0.2
"""Logarithm of the quotient of two times from which on their labels do not touch."""

APART_LPIPS = 0.002
"""Difference of LPIPS from which on they do not either."""

LABEL_RIGHT = 5
"""Points from a dot to its label; above and below in turns, so that neighbours stay legible."""

LABEL_ABOVE = 6
LABEL_BELOW = -12

ROW_INCHES = 0.42
"""Height of a sub-model's row of runs."""

Row = Mapping[str, Any]
"""A row of `compare.with_times`."""


def quality_against_latency(devices: Sequence[tuple[str, Sequence[Row]]], budget: float) -> bytes:
    """Every sub-model a point, the budget a line; the sub-models of the first device are named.

    Args:
        devices: (name, rows) of each.
        budget: ms.
    """
    figure, axes = _axes(8, 4.6)
    for k, (name, every) in enumerate(devices):
        rows = [row for row in every if row["p90_ms"] and row["lpips"] is not None]
        colour = CHOSEN if k == 0 else OTHERS[(k - 1) % len(OTHERS)]
        best = _undominated(rows)
        if best:
            axes.plot(*zip(*best, strict=True), color=colour, linewidth=1.2, alpha=0.6)
        plain_name = shortened(
            name.lstrip("_"), LONGEST_LABEL
        )  # a label that starts with "_" would be hidden
        _scatter(axes, rows, plain_name, colour)
        if k == 0:  # the others are in the table
            _name(axes, rows, best)
    axes.axvline(budget, color=LIMIT, linewidth=1.2, linestyle="--")
    axes.text(budget, 0.02, f" {budget:g} ms", color=LIMIT, fontsize=8, transform=axes.get_xaxis_transform())
    _milliseconds(axes)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds that nine of ten edits stay within (p90)")
    axes.set_ylabel("LPIPS to the full network (better is up)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(0.92, 1), ncols=3)
    return _png(figure)


def runs(times: Mapping[Candidate, Times], order: Iterable[Candidate], budget: float) -> bytes:
    """One row of dots a sub-model, a tick at p50 and p90; the budget, in ms, a line."""
    best = set(frontier(order, work))
    names = sorted(times, key=work)
    figure, axes = _axes(8, ROW_INCHES * max(3, len(names)) + 1.1)
    for y, candidate in enumerate(names):
        known = times[candidate]
        colour = CHOSEN if candidate in best else QUIET
        axes.scatter(known.runs, [y] * len(known.runs), s=18, alpha=0.45, color=colour, linewidths=0)
        axes.scatter([known.p50, known.p90], [y, y], marker="|", s=190, color=INK, linewidths=1.4, zorder=3)
    axes.axvline(budget, color=LIMIT, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(names)), [label(candidate) for candidate in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    _milliseconds(axes)
    axes.set_title(" ", fontsize=12)  # the page's own label lies over the corner
    axes.set_xlabel("milliseconds of each timed run; bars at p50 and p90, the budget dashed")
    return _png(figure)


def _axes(width: float, height: float) -> "tuple[Figure, Axes]":
    """A figure of that size in inches."""
    import_matplotlib()
    from matplotlib.figure import Figure  # here: the page opens a quarter of a second sooner

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    texts: list[Any] = figure.findobj(_is_text)
    for artist in texts:
        artist.set_parse_math(False)  # "$" in a name is a dollar, not the start of a formula
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, facecolor="white")
    return buffer.getvalue()


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "set_parse_math")


def _milliseconds(axes: "Axes") -> None:
    """A logarithmic axis with plain numbers on it."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()


def _point(row: Row) -> tuple[float, float]:
    return row["p90_ms"], row["lpips"]


def _undominated(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The points that none is both better and quicker than, quickest first."""
    line: list[tuple[float, float]] = []
    for point in sorted(_point(row) for row in rows):
        if not line or point[1] < line[-1][1]:
            line.append(point)
    return line


def _scatter(axes: "Axes", rows: Sequence[Row], name: str, colour: str) -> None:
    """Filled where a sub-model was measured, hollow where it is predicted."""
    for measured in (True, False):
        points = [_point(row) for row in rows if row["measured"] == measured]
        if not points:
            continue
        axes.scatter(
            *zip(*points, strict=True),
            s=46,
            color=colour if measured else "white",
            edgecolors=colour,
            zorder=3,
            label=name if measured else f"{name}, predicted",
        )


def _name(axes: "Axes", rows: Sequence[Row], best: Sequence[tuple[float, float]]) -> None:
    """Label the best points and ring the chosen one."""
    named: list[Row] = []
    for row in sorted(rows, key=_chosen_and_measured_first):
        wanted = row["chosen"] or _point(row) in best
        if wanted and all(_apart(row, other) for other in named):  # names must not touch
            named.append(row)
    for k, row in enumerate(sorted(named, key=_waiting)):
        axes.annotate(
            label((row["r"], row["c"])),
            _point(row),
            (LABEL_RIGHT, LABEL_ABOVE if k % 2 else LABEL_BELOW),
            textcoords="offset points",
            fontsize=8,
            color=INK,
            weight="bold" if row["chosen"] else "normal",
        )
        if row["chosen"]:
            x, y = _point(row)
            axes.scatter([x], [y], s=190, facecolors="none", edgecolors=CHOSEN, linewidths=1.8, zorder=4)


def _chosen_and_measured_first(row: Row) -> tuple[bool, bool]:
    return not row["chosen"], not row["measured"]


def _waiting(row: Row) -> float:
    return row["p90_ms"]


def _apart(row: Row, other: Row) -> bool:
    """Whether two labels do not touch."""
    by_time = abs(math.log(row["p90_ms"] / other["p90_ms"])) > APART
    return by_time or abs(row["lpips"] - other["lpips"]) > APART_LPIPS
