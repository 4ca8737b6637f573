"""Plots for a meeting: quality against waiting, and the runs that were timed. PNG bytes, drawn without a display."""

import io
import math

from agedit.compat import import_matplotlib
from agedit.selection.cost_model import frontier
from agedit.submodel import work
from ui.plain_text import shortened

INK, QUIET, CHOSEN, OTHERS = "#27272a", "#a1a1aa", "#4f46e5", ("#0891b2", "#d97706", "#be185d", "#15803d")


LONGEST_LABEL = 40  # characters of a device's name in a legend


def _png(figure):
    for artist in figure.findobj(lambda artist: hasattr(artist, "set_parse_math")):
        artist.set_parse_math(False)  # "$" in a name is a dollar, not the start of a formula
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return buffer.getvalue()


def _axes(width, height):
    import_matplotlib()
    from matplotlib.figure import Figure  # here: the page opens a quarter of a second sooner

    figure = Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color="#e4e4e7", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _milliseconds(axes):
    """A logarithmic axis with plain numbers on it."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [
        v
        for v in (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000)
        if low <= v <= high
    ]
    axes.set_xticks(ticks, [str(v) for v in ticks])
    axes.minorticks_off()


def quality_against_latency(devices, order, budget):
    """devices: [(name, rows of `compare.with_times`)], this one first. Every sub-model a point, the budget a line."""
    figure, axes = _axes(8, 4.6)
    for k, (name, rows) in enumerate(devices):
        name = shortened(name.lstrip("_"), LONGEST_LABEL)  # matplotlib hides a label that starts with "_"
        rows = [r for r in rows if r["p90_ms"] and r["lpips"] is not None]
        colour = CHOSEN if k == 0 else OTHERS[(k - 1) % len(OTHERS)]
        line = []  # what nothing both better and quicker undercuts on that device
        for point in sorted((r["p90_ms"], r["lpips"]) for r in rows):
            if not line or point[1] < line[-1][1]:
                line.append(point)
        axes.plot(*zip(*line), color=colour, linewidth=1.2, alpha=0.6) if line else None
        for measured in (True, False):
            points = [(r["p90_ms"], r["lpips"]) for r in rows if r["measured"] == measured]
            if points:
                axes.scatter(
                    *zip(*points),
                    s=46,
                    color=colour if measured else "white",
                    edgecolors=colour,
                    zorder=3,
                    label=name if measured else f"{name}, predicted",
                )
        named, apart = (
            [],
            lambda r, o: (
                abs(math.log(r["p90_ms"] / o["p90_ms"])) > 0.2 or abs(r["lpips"] - o["lpips"]) > 0.002
            ),
        )
        for r in (
            sorted(rows, key=lambda r: (not r["chosen"], not r["measured"])) if k == 0 else []
        ):  # the others are in the table
            if (r["chosen"] or (r["p90_ms"], r["lpips"]) in line) and all(
                apart(r, o) for o in named
            ):  # names must not touch
                named.append(r)
        for n, r in enumerate(
            sorted(named, key=lambda r: r["p90_ms"])
        ):  # above and below in turns: neighbours stay legible
            axes.annotate(
                f"{r['r']}:{r['c']:g}",
                (r["p90_ms"], r["lpips"]),
                (5, 6 if n % 2 else -12),
                textcoords="offset points",
                fontsize=8,
                color=INK,
                weight="bold" if r["chosen"] else "normal",
            )
            if r["chosen"]:
                axes.scatter(
                    [r["p90_ms"]],
                    [r["lpips"]],
                    s=190,
                    facecolors="none",
                    edgecolors=CHOSEN,
                    linewidths=1.8,
                    zorder=4,
                )
    axes.axvline(budget, color="#dc2626", linewidth=1.2, linestyle="--")
    axes.text(
        budget, 0.02, f" {budget:g} ms", color="#dc2626", fontsize=8, transform=axes.get_xaxis_transform()
    )
    _milliseconds(axes)
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds that nine of ten edits stay within (p90)")
    axes.set_ylabel("LPIPS to the full network (better is up)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(0.92, 1), ncols=3)
    return _png(figure)


def runs(times, order, budget):
    """One row of dots a sub-model, a tick at p50 and p90; the budget a line. times: {(r, c): Times}."""
    best = set(frontier(order, work))
    names = sorted(times, key=work)
    figure, axes = _axes(8, 0.42 * max(3, len(names)) + 1.1)
    for y, rc in enumerate(names):
        colour = CHOSEN if rc in best else QUIET
        axes.scatter(times[rc].runs, [y] * len(times[rc].runs), s=18, alpha=0.45, color=colour, linewidths=0)
        axes.scatter(
            [times[rc].p50, times[rc].p90], [y, y], marker="|", s=190, color=INK, linewidths=1.4, zorder=3
        )
    axes.axvline(budget, color="#dc2626", linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(names)), [f"{r}:{c:g}" for r, c in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    _milliseconds(axes)
    axes.set_title(" ", fontsize=12)  # the page's own label lies over the corner
    axes.set_xlabel("milliseconds of each timed run; bars at p50 and p90, the budget dashed")
    return _png(figure)
