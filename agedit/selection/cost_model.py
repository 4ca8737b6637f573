"""Times of candidates that were not timed, predicted from those that were: p50 = a + b * cost."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from agedit.selection.budget import MIN_RUNS, fits_budget, required_budget, tail_ratio
from agedit.selection.times import Candidate, Times, percentile

GIVEN_UP_P90 = 1.25
"""p90 over p50 assumed, at least, of a candidate that was given up after a few runs."""

Cost = Callable[[Candidate], float]
"""`submodel.work` of a candidate: what a run costs, multiply-adds and moved values in one number."""


class LineFit(NamedTuple):
    """p50 = intercept + slope * cost: milliseconds, and milliseconds a unit of `submodel.work`."""

    intercept: float
    slope: float

    def predict(self, cost: float) -> float:
        """Milliseconds of one run, never negative."""
        return max(0.0, self.intercept + self.slope * cost)


class Estimate(NamedTuple):
    """p50, p90 and the budget that a candidate requires, in ms; timed (`measured`) or only predicted."""

    p50: float
    p90: float
    required: float
    measured: bool


class Answer(NamedTuple):
    """The choice for a budget without a run: the candidate, whether it fits, its times in ms as of now."""

    candidate: Candidate
    fits: bool
    p50: float
    p90: float
    measured: bool


def frontier(order: Iterable[Candidate], cost: Cost) -> list[Candidate]:
    """Candidates of `order` (best first) that cost less than every better one; the others are never worth
    choosing.
    """
    kept: list[Candidate] = []
    cheapest = math.inf
    for candidate in order:
        if cost(candidate) < cheapest:
            kept.append(candidate)
            cheapest = cost(candidate)
    return kept


def fit(times: Mapping[Candidate, Times], cost: Cost) -> LineFit | None:
    """The line through (cost, p50) by relative least squares, its slope not negative; None below two
    candidates.
    """
    points = [(cost(k), t.p50) for k, t in times.items() if t.runs]
    if len(points) < 2:
        return None
    weights = [1 / max(y, 1e-6) ** 2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    variance = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    covariance = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True))
    slope = max(0.0, covariance / max(variance, 1e-12))
    return LineFit(mean_y - slope * mean_x, slope)


class CostModel:
    """Estimates for any candidate from the times known so far."""

    def __init__(self, times: Mapping[Candidate, Times], cost: Cost) -> None:
        self._times = times
        self._cost = cost
        self._line = fit(times, cost)
        self._tail = tail_ratio(times)
        spreads = [t.p90 / t.p50 for t in times.values() if t.runs]
        self._usual_spread = percentile(spreads or [1.0], 0.5)

    def estimate(self, candidate: Candidate) -> Estimate | None:
        """As timed, else by the fit. None where fewer than two candidates were timed, and this was not one of
        them.
        """
        known = self._times.get(candidate)
        if known and len(known.runs) >= MIN_RUNS:
            return self._timed(known)
        if known and known.runs:  # given up after a few runs: far over the budget of then
            p90 = max(known.p90, GIVEN_UP_P90 * known.p50)
            return Estimate(known.p50, p90, p90, measured=False)
        if self._line is None:
            return None
        p50 = self._line.predict(self._cost(candidate))
        p90 = p50 * self._usual_spread
        return Estimate(p50, p90, required_budget(p50, p90, self._tail), measured=False)

    def _timed(self, known: Times) -> Estimate:
        """A p90 of few runs is unsteady, so it is drawn half-way to the usual distance from p50."""
        p90 = (known.p90 + self._usual_spread * known.p50) / 2
        return Estimate(known.p50, p90, required_budget(known.p50, p90, self._tail), measured=True)


def answer(
    order: Iterable[Candidate],
    cost: Cost,
    times: Mapping[Candidate, Times],
    budget: float,
    slowdown: float = 1.0,
) -> Answer | None:
    """The best candidate for `budget` ms from times already known, without a run.

    Args:
        order: candidates, best first.
        slowdown: how many times slower the device is now than when it was timed (see `drift.DriftWatch`).

    Returns:
        The best that fits; the cheapest with `fits` False when none does; None when too little is known to
        say whether a better one would fit.
    """
    candidates = frontier(order, cost)
    model = CostModel(times, cost)
    estimates = [(candidate, model.estimate(candidate)) for candidate in candidates]
    known = [(candidate, estimate) for candidate, estimate in estimates if estimate is not None]
    if not known:
        return None
    for candidate, estimate in known:
        if fits_budget(estimate.required * slowdown, budget, candidate == candidates[-1]):
            if len(known) < len(candidates):
                return None
            return _answer(candidate, estimate, True, slowdown)
    candidate, estimate = known[-1]
    return _answer(candidate, estimate, False, slowdown)


def _answer(candidate: Candidate, estimate: Estimate, fits: bool, slowdown: float) -> Answer:
    return Answer(candidate, fits, estimate.p50 * slowdown, estimate.p90 * slowdown, estimate.measured)


def estimates(
    candidates: Sequence[Candidate], cost: Cost, times: Mapping[Candidate, Times]
) -> list[Estimate | None]:
    """`CostModel.estimate` of each candidate."""
    model = CostModel(times, cost)
    return [model.estimate(candidate) for candidate in candidates]
