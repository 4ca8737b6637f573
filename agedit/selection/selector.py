"""S41-S44: find the best sub-model within a waiting budget by timing candidates. Knows times and budgets
only.

From best to worst: a candidate that a fit of the times so far puts far over the budget is skipped; the others
are timed until the verdict is clear; the first that fits is confirmed by timing it in turns with the one
before it.
"""

import contextlib
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from agedit.selection.budget import MIN_RUNS, fits_budget, required_budget, tail_ratio
from agedit.selection.cost_model import Cost, fit, frontier
from agedit.selection.times import Candidate, Times

WARM_UP = 3
"""Runs that are not counted: the first compiles and allocates."""

MAX_RUNS = 40
"""Counted runs of a candidate at most, while somebody waits for the choice."""

CONFIRM_RUNS = 25
"""Counted runs at most of each of two rivals that are timed in turns."""

IDLE_RUNS = 40
"""Counted runs of every candidate in a quiet moment."""

IDLE_ROUNDS = 5
"""Rounds that those are spread over: a device has states that last for seconds."""

IDLE_RETRIES = 3
"""How often candidates are timed in a quiet moment, at most, because another program disturbed them."""

DISTURBED = 1.3
"""p90 over p50 from which on a moment was not quiet."""

NEAR = 0.12
"""A p90 this close to the budget, as a share of it, asks for all runs."""

FAR = 1.6
"""Predicted over this many budgets, a candidate is not worth a run."""

HOPELESS_FIRST = 4
"""Budgets that the last warm-up run takes for a candidate to look hopeless."""

HOPELESS_P50 = 2
"""Budgets that the median of three runs takes for such a candidate to be given up."""

NEAR_MISS = 1.3
"""Budgets that a rejected candidate's p50 may take for it to be timed again beside the one that fits."""

REASONS = {
    "fallback": "the smallest, timed first: the fallback",
    "none": "even the smallest may exceed the budget; it runs all the same",
    "far": "predicted {predicted_ms:.0f} ms, far over the budget",
    "over": "p90 {p90_ms:.1f} ms exceeds {budget_ms:.4g} ms",
    "again": "timed again in turns with its rival: p90 {p90_ms:.1f} ms",
    "best": "the best whose p90 is within {budget_ms:.4g} ms",
}
"""Why a candidate got its verdict, in the order in which S4 may come to it."""

Entry = dict[str, Any]
"""A line of the log: "submodel", "verdict", "why" (a key of REASONS), "reason", "budget_ms", and times if
known.
"""


def _ignore(_entry: Entry) -> None:
    pass


def _no_context(_candidates: Collection[Candidate]) -> AbstractContextManager[object]:
    return contextlib.nullcontext()


class Selector:
    """The loop of S4.

    Args:
        order: candidates from best to worst by measured quality.
        cost: `submodel.work` of a candidate.
        run: does, once, what the visitor waits for.
        clock: seconds.
        times: known from a valid profile.
        tell: called with each entry of `tried`.
        seed: of the random turns.
        hold: a context around each run, entered before its clock starts: waiting for a lock is nobody's time.
        passing: a context around candidates that take turns, which may be loaded while it is entered.
    """

    def __init__(
        self,
        order: Sequence[Candidate],
        cost: Cost,
        run: Callable[[Candidate], object],
        clock: Callable[[], float] = time.perf_counter,
        times: Mapping[Candidate, Times] | None = None,
        tell: Callable[[Entry], object] | None = None,
        seed: int = 0,
        hold: AbstractContextManager[object] | None = None,
        passing: Callable[[Collection[Candidate]], AbstractContextManager[object]] | None = None,
    ) -> None:
        self.order = frontier(order, cost)
        self.times: dict[Candidate, Times] = dict(times or {})
        self.tried: list[Entry] = []
        self._cost = cost
        self._run = run
        self._clock = clock
        self._tell = tell or _ignore
        self._random = random.Random(seed)
        self._hold = hold or contextlib.nullcontext()
        self._passing = passing or _no_context
        self._budget = 0.0
        self._timed: set[Candidate] = set()

    def choose(self, budget: float) -> tuple[Candidate, bool]:
        """Time what must be timed and return (candidate, whether it fits `budget` ms).

        When nothing fits, the cheapest candidate is returned with False.
        """
        self.tried = []
        self._timed = set()
        self._budget = budget
        smallest = self.order[-1]
        if not self._known(smallest) and not self._smallest_fits():
            return smallest, False
        rejected = None
        for candidate in self.order:
            predicted = self._predict(candidate)
            if not self._known(candidate):
                if predicted is not None and predicted > FAR * budget:
                    self._log(candidate, "skipped", "far", predicted)
                    continue
                self._time(candidate)
            if not self._fits(candidate):
                self._log(candidate, "too slow", "over", predicted)
                rejected = candidate
                continue
            winner = self._confirm(candidate, rejected)
            if winner is None:  # the device slowed down: neither keeps the budget any more
                rejected = candidate
                continue
            self._log(winner, "chosen", "best", predicted)
            return winner, True
        self._log(smallest, "chosen", "none")
        return smallest, False

    def complete(self) -> None:
        """Time every candidate well, so that any budget is answered by measurement; for a quiet moment.

        Candidates take random turns, so that a disturbance is in every p90 as it is in a visit's. Two at a
        time, a large one with a small one, for the memory that they hold.
        """
        complete = all(len(self.times.get(k, Times()).runs) >= IDLE_RUNS for k in self.order)
        due = self._disturbed() if complete else self.order
        for _ in range(IDLE_RETRIES):
            fresh = {candidate: Times() for candidate in due}
            for shift in range(IDLE_ROUNDS):
                for pair in self._pairs(due, shift):
                    with self._passing(pair):
                        self._take_turns(pair, fresh)
            self.times = self.times | fresh
            due = self._disturbed()

    def _smallest_fits(self) -> bool:
        """Time the smallest candidate, the fallback, first."""
        smallest = self.order[-1]
        best = self.order[0]
        self._time(smallest)
        if self._fits(smallest):
            self._log(smallest, "fits", "fallback")
            return True
        self._log(smallest, "too slow", "none")
        if not self._known(best):  # a second point for the fit, so that other budgets are answered at once
            self._time(best)
        return False

    def _confirm(self, candidate: Candidate, rejected: Candidate | None) -> Candidate | None:
        """The winner between `candidate`, which fits, and a better one that was rejected by a near miss."""
        if rejected is None or not {rejected, candidate} & self._timed:
            return candidate
        if self.times[rejected].p50 > NEAR_MISS * self._budget:
            return candidate
        return self._reconsider(rejected, candidate)

    def _reconsider(self, better: Candidate, worse: Candidate) -> Candidate | None:
        """Time both again in random turns, so that a drift or another program's burst hits both alike.

        Returns the better one if it fits now, else the worse one if it still fits, else None.
        """
        fresh = {better: Times(), worse: Times()}
        for count in range(CONFIRM_RUNS):
            if count >= MIN_RUNS and all(t.far_from(self._budget, NEAR) for t in fresh.values()):
                break
            for candidate in self._random.sample([better, worse], 2):
                fresh[candidate].runs.append(self._once(candidate))
        for candidate in (better, worse):
            self.times[candidate] = fresh[candidate]
            fits = self._fits(candidate)
            self._log(candidate, "fits" if fits else "too slow", "again")
            if fits:
                return candidate
        return None

    def _pairs(self, due: Sequence[Candidate], shift: int) -> list[list[Candidate]]:
        """Each candidate with one partner, another in each round, in random order."""
        pairs = {frozenset((k, (shift - 1 - k) % len(due))) for k in range(len(due))}
        ordered = sorted(pairs, key=min)
        return [[due[k] for k in sorted(pair)] for pair in self._random.sample(ordered, len(ordered))]

    def _take_turns(self, pair: Sequence[Candidate], fresh: Mapping[Candidate, Times]) -> None:
        """A round's share of IDLE_RUNS for each candidate of a pair, after warm-up, added to `fresh`."""
        for turn in range(-WARM_UP, IDLE_RUNS // IDLE_ROUNDS):
            for candidate in self._random.sample(pair, len(pair)):
                took = self._once(candidate)
                if turn >= 0:
                    fresh[candidate].runs.append(took)

    def _time(self, candidate: Candidate) -> None:
        """Run until p90 is clearly on one side of the budget, MIN_RUNS to MAX_RUNS times."""
        times = Times()
        self.times[candidate] = times
        self._timed.add(candidate)
        last_warm_up = 0.0
        for _ in range(WARM_UP):
            last_warm_up = self._once(candidate)
        if last_warm_up > HOPELESS_FIRST * self._budget:  # do not keep the visitor waiting
            times.runs = [last_warm_up, self._once(candidate), self._once(candidate)]
            if times.p50 > HOPELESS_P50 * self._budget:
                return
            times.runs = []  # it was only a slow start
        while self._needs_runs(times):
            times.runs.append(self._once(candidate))

    def _needs_runs(self, times: Times) -> bool:
        if len(times.runs) < MIN_RUNS:
            return True
        return len(times.runs) < MAX_RUNS and not times.far_from(self._budget, NEAR)

    def _once(self, candidate: Candidate) -> float:
        """Milliseconds of one run."""
        with self._hold:
            start = self._clock()
            self._run(candidate)
            return (self._clock() - start) * 1e3

    def _disturbed(self) -> list[Candidate]:
        return [k for k in self.order if self.times[k].p90 > DISTURBED * self.times[k].p50]

    def _known(self, candidate: Candidate) -> bool:
        return candidate in self.times and len(self.times[candidate].runs) >= MIN_RUNS

    def _fits(self, candidate: Candidate) -> bool:
        times = self.times[candidate]
        required = required_budget(times.p50, times.p90, tail_ratio(self.times))
        return fits_budget(required, self._budget, candidate == self.order[-1])

    def _predict(self, candidate: Candidate) -> float | None:
        """Milliseconds of one run by the fit of all times so far, or None."""
        line = fit(self.times, self._cost)
        return None if line is None else line.predict(self._cost(candidate))

    def _log(self, candidate: Candidate, verdict: str, why: str, predicted: float | None = None) -> None:
        entry: Entry = {"submodel": candidate, "verdict": verdict, "why": why, "budget_ms": self._budget}
        times = self.times.get(candidate)
        if times and times.runs:
            entry["p50_ms"] = round(times.p50, 2)
            entry["p90_ms"] = round(times.p90, 2)
            entry["n"] = len(times.runs)
        if predicted is not None:
            entry["predicted_ms"] = round(predicted, 2)
        entry["reason"] = REASONS[why].format(**entry)
        self.tried.append(entry)
        self._tell(entry)
