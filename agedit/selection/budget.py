"""What a waiting budget promises, and which budget a candidate needs to keep that promise.

Two promises: nine of ten edits take no longer than the budget, and 99 of 100 take at most 1.25 times as long.
"""

from collections.abc import Mapping

from agedit.selection.times import Candidate, Times, percentile

MIN_RUNS = 15
"""Counted runs of a candidate below which its times say little."""

TIMING_MARGIN = 1.06
"""A budget is divided by this before a choice: a p90 of few runs tends to be low, and photos differ in cost.
"""

SMALLEST_HEADROOM = 1.15
"""Room that the smallest candidate needs on top: when the device slows down there is nothing to fall back to.
"""

TAIL_SHARE = 0.99
"""Share of the edits that the second promise covers."""

TAIL_LIMIT = 1.25
"""How many budgets an edit of that share may take."""

TAIL_MIN_RUNS = 200
"""Runs, all candidates together, below which nothing is known of so rare an outlier."""

MAX_TAIL_FACTOR = 1.2
"""Outliers raise the required budget to at most this many p90s."""


def tail_ratio(times: Mapping[Candidate, Times]) -> float:
    """How many p50s an outlier takes: the 99th percentile of run / p50 over all candidates' runs.

    What disturbs a device disturbs all candidates alike, so their runs are pooled. 0 where too few runs are
    known.
    """
    ratios = [run / t.p50 for t in times.values() if len(t.runs) >= MIN_RUNS for run in t.runs]
    return percentile(ratios, TAIL_SHARE) if len(ratios) >= TAIL_MIN_RUNS else 0.0


def required_budget(p50: float, p90: float, tail: float) -> float:
    """The lowest budget that keeps both promises. All in ms, but for `tail` (see `tail_ratio`).

    Where outliers are so long that only a much smaller candidate would avoid them, the second promise is
    given up at MAX_TAIL_FACTOR p90s, and the first one holds.
    """
    for_outliers = min(p50 * tail / TAIL_LIMIT, p90 * MAX_TAIL_FACTOR)
    return max(p90, for_outliers)


def required_budgets(times: Mapping[Candidate, Times]) -> dict[Candidate, float]:
    """`required_budget` of every candidate, by its own runs and the outliers of all, in ms."""
    tail = tail_ratio(times)
    return {candidate: required_budget(t.p50, t.p90, tail) for candidate, t in times.items()}


def fits_budget(required: float, budget: float, is_smallest: bool) -> bool:
    """Whether a candidate that requires a budget of `required` ms may be promised within `budget` ms."""
    headroom = SMALLEST_HEADROOM if is_smallest else 1.0
    return required * headroom <= budget
