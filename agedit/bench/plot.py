"""What the bench measured as a picture: how near the limit networks are, and whether budgets are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

from agedit import submodel
from agedit.bench.networks import NetworkRates
from agedit.bench.promise import PromiseRow
from agedit.bench.run import BenchResults
from agedit.bench.targets import YARDSTICK_SHARES
from agedit.compat import import_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_SIZE = (10, 4)
"""Inches."""

DPI = 130
BAR_SPACING = 0.38
"""Distance of the bars of two precisions, where 1 is that of two sub-models."""

BAR_WIDTH = 0.36
PRECISION_COLOURS = ("#4f46e5", "#0891b2")
TARGET_COLOUR = "#dc2626"


def plot(data: BenchResults, path: str | Path) -> None:
    """Write a PNG: each network's share of the plain convolutions' rate, and the edits at each budget."""
    import_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(FIGURE_SIZE, layout="constrained")
    left, right = figure.subplots(1, 2)
    _plot_shares(left, data["networks"])
    _plot_promise(right, data["promise"])
    left.legend(frameon=False, fontsize=8, markerscale=0.5)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=DPI)


def _plot_shares(axes: "Axes", networks: NetworkRates) -> None:
    """Bars: the share of the plain convolutions' rate by sub-model, precisions side by side."""
    precisions = list(networks["precisions"].items())
    for k, (name, rates) in enumerate(precisions):
        shift = (k - (len(precisions) - 1) / 2) * BAR_SPACING
        axes.bar(
            [i + shift for i in range(len(rates["submodels"]))],
            [100 * row["share"] for row in rates["submodels"]],
            BAR_WIDTH,
            label=f"{name}, {rates['yardstick_gflops']:.0f} GFLOP/s = 100%",
            color=PRECISION_COLOURS[k],
        )
    shapes = [(row["r"], row["c"]) for row in precisions[0][1]["submodels"]]
    wanted = {i: 100 * YARDSTICK_SHARES[shape] for i, shape in enumerate(shapes) if shape in YARDSTICK_SHARES}
    axes.scatter(
        list(wanted), list(wanted.values()), marker="_", s=900, color=TARGET_COLOUR, label="wanted", zorder=3
    )
    axes.set_xticks(range(len(shapes)), [submodel.label(shape) for shape in shapes], fontsize=8)
    axes.set_ylabel("% of the rate of plain convolutions")
    axes.set_title("Near the limit", loc="left", fontsize=11)


def _plot_promise(axes: "Axes", rows: list[PromiseRow]) -> None:
    """Points: p50 and p90 of the edits by budget, and a line where both are equal."""
    budgets = [row["budget_ms"] for row in rows]
    axes.plot(budgets, budgets, color=TARGET_COLOUR, linestyle="--", label="the budget")
    medians = [row["p50_ms"] for row in rows]
    p90s = [row["p90_ms"] for row in rows]
    for name, values, marker in (("p50", medians, "o"), ("p90", p90s, "^")):
        axes.scatter(
            budgets,
            values,
            marker=marker,
            color=PRECISION_COLOURS[0],
            label=f"{name} of {rows[0]['edits']} edits",
            zorder=3,
        )
    for row in rows:
        place = (row["budget_ms"], row["p50_ms"])
        axes.annotate(
            submodel.label(row["submodel"]), place, (5, -12), textcoords="offset points", fontsize=8
        )
    axes.set_xscale("log")  # budgets grow by a factor
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.margins(0.06, 0.1)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(budgets, [f"{budget:.0f}" for budget in budgets])
    axes.set_xlabel("waiting budget, ms")
    axes.set_ylabel("ms of an edit")
    axes.set_title("The promise", loc="left", fontsize=11)
