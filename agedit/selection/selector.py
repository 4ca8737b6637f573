"""S41-S44: find the best sub-model within a waiting budget by timing candidates. Knows times and budgets only.

From best to worst: a candidate that a fit of the times so far puts far over the budget is skipped; the others are
timed until the verdict is clear; the first that fits is confirmed, in turns with the one that it was preferred to.
"""

import contextlib
import math
import random
import time
from collections import deque
from dataclasses import dataclass, field

WARM_UP = 3  # runs that are not counted: the first compiles and allocates
LEAST, MOST = 15, 40  # counted runs of a candidate
AGAIN = 25  # the same, at most, of each of two rivals
QUIET = 40  # counted runs of every candidate in a quiet moment
ROUNDS = 5  # that they are spread over, in equal parts
UNSETTLED = 1.3  # p90 over p50 from here on was not a quiet moment
NEAR = 0.12  # a p90 this close to the budget asks for all runs
FAR = 1.6  # predicted over this many budgets: not worth a run
REASONS = {  # why a candidate got its verdict, in the order in which S4 may come to it
    "fallback": "the smallest, timed first: the fallback",
    "none": "even the smallest may exceed the budget; it runs all the same",
    "far": "predicted {predicted_ms:.0f} ms, far over the budget",
    "over": "p90 {p90_ms:.1f} ms exceeds {budget_ms:.4g} ms",
    "again": "timed again in turns with its rival: p90 {p90_ms:.1f} ms",
    "best": "the best whose p90 is within {budget_ms:.4g} ms",
}
LAST = 1.15  # the smallest has nothing to fall back to when the device slows down: its promise wants this much more room
MARGIN = (
    1.06  # a p90 of few runs lies below that of many more often than not, and other photos cost a bit more
)
TAIL, ROOM = (
    0.99,
    1.25,
)  # besides a p90 within the budget, this share of edits is promised within so many budgets
ENOUGH, BORNE = (
    200,
    1.2,
)  # runs, of all candidates together, that tell so rare a thing; outliers ask for at most this many p90s


def percentile(values, share):
    """The value that at least `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Times:
    """Counted runs of one candidate, in milliseconds."""

    runs: list = field(default_factory=list)

    @property
    def p50(self):
        return percentile(self.runs, 0.5)

    @property
    def p90(self):
        return percentile(self.runs, 0.9)


def tail(times):
    """How many p50s the slowest hundredth of all candidates' runs takes: what disturbs a device disturbs all alike. 0 where too few runs tell."""
    known = [(t.p50, t.runs) for t in times.values() if len(t.runs) >= LEAST]
    ratios = [run / p50 for p50, runs in known for run in runs]
    return percentile(ratios, TAIL) if len(ratios) >= ENOUGH else 0.0


def promised(p50, p90, tail):
    """The budget, in ms as the first two, that keeps both promises: its p90 within it, and TAIL of the edits within ROOM times it.

    Where outliers are so long that a much smaller sub-model would be needed, BORNE p90s: the first promise holds, the second cannot.
    """
    return max(p90, min(p50 * tail / ROOM, p90 * BORNE))


def needed(times):
    """{candidate: the budget that it keeps}, in ms, by its own runs and the tail of all (see `promised`)."""
    slowest = tail(times)
    return {k: promised(t.p50, t.p90, slowest) for k, t in times.items()}


def within(needed, budget, smallest):
    """Whether what is `needed` (see `promised`) may be promised within a budget, both in ms; the smallest candidate wants LAST times the room."""
    return needed * (LAST if smallest else 1) <= budget


def frontier(order, cost):
    """Candidates of `order` (best first) that no better one undercuts: a dominated (r, c) is never worth choosing."""
    kept, cheapest = [], math.inf
    for candidate in order:
        if cost(candidate) < cheapest:
            kept.append(candidate)
            cheapest = cost(candidate)
    return kept


def fit(times, cost):
    """(a, b) of p50 = a + b * cost by relative least squares, b >= 0; None below two candidates."""
    points = [(cost(k), t.p50) for k, t in times.items() if t.runs]
    if len(points) < 2:
        return None
    weights = [1 / max(y, 1e-6) ** 2 for _, y in points]
    total = sum(weights)
    mx = sum(w * x for w, (x, _) in zip(weights, points)) / total
    my = sum(w * y for w, (_, y) in zip(weights, points)) / total
    spread = sum(w * (x - mx) ** 2 for w, (x, _) in zip(weights, points))
    b = max(0.0, sum(w * (x - mx) * (y - my) for w, (x, y) in zip(weights, points)) / max(spread, 1e-12))
    return my - b * mx, b


def estimates(candidates, cost, times):
    """[(p50, p90, needed, measured)] in ms of candidates: as timed, else by the fit with the usual distance between p50 and p90.

    A p90 of few runs is unsteady, and what disturbs a device disturbs all alike: half of its distance is the usual one. `needed` is the budget
    that keeps both promises (`promised`).
    None where nothing can be said: fewer than two candidates were timed, and this was not one of them.
    """
    usual, line = (
        percentile([t.p90 / t.p50 for t in times.values() if t.runs] or [1.0], 0.5),
        fit(times, cost),
    )
    slowest = tail(times)

    def one(candidate):
        known = times.get(candidate)
        if known and len(known.runs) >= LEAST:
            p90 = (known.p90 + usual * known.p50) / 2
            return known.p50, p90, promised(known.p50, p90, slowest), True
        if known and known.runs:  # given up after a few runs: far over the budget of then
            p90 = max(known.p90, 1.25 * known.p50)
            return known.p50, p90, p90, False
        if line is None:
            return None
        p50 = max(0.0, line[0] + line[1] * cost(candidate))
        return p50, p50 * usual, promised(p50, p50 * usual, slowest), False

    return [one(candidate) for candidate in candidates]


def answer(order, cost, times, budget, slow=1.0):
    """The best candidate for `budget` ms from times already known, without a run.

    Args:
        slow: how much slower the device is now than when it was timed (see `Watch.drift`).

    Returns:
        {"candidate", "fits", "p50", "p90", "measured"}, in ms as of now; the cheapest with fits=False when none fits.
        None when too little is known to say what else would fit.
    """
    candidates = frontier(order, cost)
    known = [(k, e) for k, e in zip(candidates, estimates(candidates, cost, times)) if e]
    if not known:
        return None
    for candidate, (p50, p90, needed, measured) in known:
        if within(needed * slow, budget, candidate == candidates[-1]):
            if len(known) < len(candidates):
                return None  # it fits, but so might a better one that nothing is known of
            return {
                "candidate": candidate,
                "fits": True,
                "p50": p50 * slow,
                "p90": p90 * slow,
                "measured": measured,
            }
    candidate, (p50, p90, _, measured) = known[-1]
    return {"candidate": candidate, "fits": False, "p50": p50 * slow, "p90": p90 * slow, "measured": measured}


class Watch:
    """Live edits against what was expected of them: notices a laptop on battery, or another program's load.

    The median of the last WINDOW ratios is the drift: single outliers do not move it. A photo may cost more or less than
    the one that was timed without any drift; `accept` makes what was seen the new normal.
    """

    WINDOW, TOLERANCE = 9, 0.25

    def __init__(self):
        self.ratios, self.normal = deque(maxlen=self.WINDOW), 1.0

    def observe(self, expected, took):
        """Both in ms; `expected` is the candidate's p50 when it was timed."""
        if expected > 0 and took > 0:
            self.ratios.append(took / expected)

    @property
    def drift(self):
        """How many times slower than expected, 1.0 while within tolerance or too early to tell."""
        if len(self.ratios) < self.WINDOW:
            return 1.0
        middle = percentile(self.ratios, 0.5) / self.normal
        return middle if abs(math.log(middle)) > math.log(1 + self.TOLERANCE) else 1.0

    @property
    def pace(self):
        """How many times slower than timed this visit's edits are, for choosing: a dear photo gets a smaller sub-model."""
        if len(self.ratios) < 5:
            return 1.0
        middle = percentile(self.ratios, 0.5)
        return middle if middle > 1.03 else 1.0

    def accept(self):
        """The device was checked and is as quick as ever: what was seen is this photo's own cost."""
        self.normal = percentile(self.ratios, 0.5) if self.ratios else 1.0

    def clear(self):
        """The device was timed again: start over."""
        self.ratios.clear()
        self.normal = 1.0


class Selector:
    """The loop of S4.

    Args:
        order: candidates from best to worst by measured quality. cost: candidate -> multiply-adds.
        run: candidate -> does what the visitor waits for, once. clock: () -> seconds.
        times: {candidate: Times} known from a valid profile. tell: called with each entry of `tried`.
        hold: a context for each run, entered before its clock starts: a lock's wait is nobody's time.
        passing: candidates -> a context, entered while these take turns (see `complete`).
    """

    def __init__(
        self,
        order,
        cost,
        run,
        clock=time.perf_counter,
        times=None,
        tell=None,
        seed=0,
        hold=None,
        passing=None,
    ):
        self.order, self.cost, self.run, self.clock = frontier(order, cost), cost, run, clock
        self.times, self.hold = dict(times or {}), hold or contextlib.nullcontext()
        self.passing = passing or contextlib.nullcontext
        self.tell, self.random, self.tried = tell or (lambda entry: None), random.Random(seed), []

    def predict(self, candidate):
        """Milliseconds of one run by the fit of all times so far, or None."""
        line = fit(self.times, self.cost)
        return None if line is None else max(0.0, line[0] + line[1] * self.cost(candidate))

    def choose(self, budget):
        """Time what must be timed and return (candidate, whether its p90 is within `budget` ms).

        When nothing fits the cheapest candidate is returned with False.
        """
        self.tried, self._timed, self._budget = [], set(), budget
        smallest = self.order[-1]
        if not self._known(smallest):
            self._time(smallest, budget)
            if not self._fits(smallest, budget):
                self._log(smallest, "too slow", "none")
                if not self._known(
                    self.order[0]
                ):  # a second point, so that other budgets are answered at once
                    self._time(self.order[0], budget)
                return smallest, False
            self._log(smallest, "fits", "fallback")
        rejected = None
        for candidate in self.order:
            predicted = self.predict(candidate)
            if not self._known(candidate):
                if predicted is not None and predicted > FAR * budget:
                    self._log(candidate, "skipped", "far", predicted)
                    continue
                self._time(candidate, budget)
            if self._fits(candidate, budget):
                if (
                    rejected
                    and {rejected, candidate} & self._timed
                    and self.times[rejected].p50 <= 1.3 * budget
                ):  # a near miss, or a burst
                    winner = self._reconsider(rejected, candidate, budget)
                    if winner is None:  # the machine slowed down: neither keeps the budget any more
                        rejected = candidate
                        continue
                    candidate = winner
                self._log(candidate, "chosen", "best", predicted)
                return candidate, True
            self._log(candidate, "too slow", "over", predicted)
            rejected = candidate
        self._log(smallest, "chosen", "none")
        return smallest, False

    def complete(self):
        """Time everything that `choose` could leave out or hurry over, so that every budget's answer is measured well and none only predicted.

        In random turns: what disturbs a device now and then is in every p90 as it is in a visit, and not in that of whoever was being timed.
        Two at a time, a large one with a small one, for the memory that they hold, ROUNDS times: a device has states that last for seconds.
        """
        due = (
            self.order
            if any(len(self.times.get(k, Times()).runs) < QUIET for k in self.order)
            else self._unsettled()
        )
        for _ in range(3):  # another program's burst widens the spread: look again, twice at most
            fresh = {candidate: Times() for candidate in due}
            for shift in range(ROUNDS):
                pairs = {frozenset((k, (shift - 1 - k) % len(due))) for k in range(len(due))}
                for pair in self.random.sample(sorted(pairs, key=min), len(pairs)):
                    some = [due[k] for k in sorted(pair)]
                    with self.passing(some):
                        self._take_turns(some, fresh)
            self.times = self.times | fresh
            due = self._unsettled()

    def _take_turns(self, some, fresh):
        """A round's share of the QUIET runs for each candidate, after warm-up, into {candidate: Times} `fresh`."""
        for turn in range(-WARM_UP, QUIET // ROUNDS):
            for candidate in self.random.sample(some, len(some)):
                took = self._once(candidate)
                if turn >= 0:
                    fresh[candidate].runs.append(took)

    def _unsettled(self):
        return [k for k in self.order if self.times[k].p90 > UNSETTLED * self.times[k].p50]

    def _known(self, candidate):
        return candidate in self.times and len(self.times[candidate].runs) >= LEAST

    def _fits(self, candidate, budget):
        times = self.times[candidate]
        return within(promised(times.p50, times.p90, tail(self.times)), budget, candidate == self.order[-1])

    def _once(self, candidate):
        with self.hold:
            start = self.clock()
            self.run(candidate)
            return (self.clock() - start) * 1e3

    def _time(self, candidate, budget):
        """Runs until p90 is clearly on one side of the budget, LEAST to MOST times."""
        times = self.times[candidate] = Times()
        self._timed.add(candidate)
        for _ in range(WARM_UP):
            first = self._once(candidate)
        if first > 4 * budget:  # no doubt about it: do not keep the visitor waiting
            times.runs += [first] + [self._once(candidate) for _ in range(2)]
            if times.p50 > 2 * budget:
                return
            times.runs.clear()  # it was only a slow start
        while len(times.runs) < LEAST or (len(times.runs) < MOST and abs(times.p90 / budget - 1) < NEAR):
            times.runs.append(self._once(candidate))

    def _reconsider(self, better, worse, budget):
        """Fresh runs of both in random turns, so that drift or another program's burst hits both alike.

        Returns the better one if it fits now, else the worse one if it still fits, else None.
        """
        fresh = {better: Times(), worse: Times()}
        for count in range(AGAIN):
            if count >= LEAST and all(abs(t.p90 / budget - 1) >= NEAR for t in fresh.values()):
                break
            for candidate in self.random.sample([better, worse], 2):
                fresh[candidate].runs.append(self._once(candidate))
        for candidate in (better, worse):
            self.times[candidate] = fresh[candidate]
            fits = self._fits(candidate, budget)
            self._log(candidate, "fits" if fits else "too slow", "again")
            if fits:
                return candidate
        return None

    def _log(self, candidate, verdict, why, predicted=None):
        entry = {"submodel": candidate, "verdict": verdict, "why": why, "budget_ms": self._budget}
        times = self.times.get(candidate)
        if times and times.runs:
            entry |= {"p50_ms": round(times.p50, 2), "p90_ms": round(times.p90, 2), "n": len(times.runs)}
        if predicted is not None:
            entry["predicted_ms"] = round(predicted, 2)
        self.tried.append(entry | {"reason": REASONS[why].format(**entry)})
        self.tell(self.tried[-1])
