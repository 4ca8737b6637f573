"""Is S4's choice the best one on this device? Random budgets, against timing everything in the same run."""

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np

from agedit.runtime import Engine
from agedit.selection.budget import TIMING_MARGIN, required_budgets
from agedit.selection.selector import MAX_RUNS, WARM_UP
from agedit.selection.times import Candidate, Times
from agedit.selection.tuner import Tuner, candidate_of, thread_counts

STEADY = 1.04
"""How many times slower or faster a device may be between tuning and timing everything."""

ATTEMPTS = 3
"""How often tuning and timing everything is tried until the device is that steady."""

FIRST_BUDGET = 100.0
"""Milliseconds that the device is tuned for before other budgets are asked."""

BELOW_FASTEST = 0.9
"""The lowest random budget over the lowest p90."""

ABOVE_SLOWEST = 1.2
"""The highest random budget over the highest p90."""

Verdict = Literal["best", "noise", "worse"]
"""Of a choice: the best; the best or not by what timings differ; not the best."""

TimesOfAll = dict[Candidate, Times]


class ChoosingResults(TypedDict):
    """The choice for random budgets, and what choosing costs.

    best, within_noise, worse: shares of the `budgets`. noise: by which share the required budgets of the two
    halves of timing everything differ, the median sub-model's. seconds: of choosing; exhaustive_seconds: of
    timing everything; share_of_exhaustive: of the one in the other. answer_ms: another budget's answer.
    verify_s: seconds of checking the profile at the next start. drift: how many times slower or faster the
    device was while everything was timed, the larger of its halves, in the steadiest of the `attempts`.
    """

    budgets: int
    best: float
    within_noise: float
    worse: float
    noise: float
    seconds: float
    exhaustive_seconds: float
    share_of_exhaustive: float
    answer_ms: float
    verify_s: float
    threads: int
    drift: float
    attempts: int


@dataclass(frozen=True)
class Attempt:
    """One tuning between two halves of timing everything.

    tuned: times by the tuning. before, after: times by each half, with the number of threads that the tuning
    found best. choosing_s, exhaustive_s: seconds of the choice, and of both halves. drift: how many times
    slower than in the tuning the device was in each half.
    """

    tuned: TimesOfAll
    threads: int
    before: TimesOfAll
    after: TimesOfAll
    choosing_s: float
    exhaustive_s: float
    drift: tuple[float, float]

    @property
    def unsteadiness(self) -> float:
        """How many times slower or faster the device was in the less steady half, 1.0 or more."""
        return max(max(drift, 1 / drift) for drift in self.drift)

    def halves_at_tuning_pace(self) -> tuple[TimesOfAll, TimesOfAll]:
        """`before` and `after`, as if the device had been as fast as in the tuning."""
        return _divided(self.before, self.drift[0]), _divided(self.after, self.drift[1])


def _divided(times: TimesOfAll, drift: float) -> TimesOfAll:
    return {candidate: Times([run / drift for run in t.runs]) for candidate, t in times.items()}


def exhaustive(
    tuner: Tuner, counts: Sequence[int], runs: int
) -> tuple[dict[tuple[int, Candidate], Times], float]:
    """Everything that S4 could choose: with each number of threads every sub-model, in random turns.

    Args:
        counts: numbers of threads, timed one after the other: no visit changes it between two edits, and
            where it does change, medians are 4 to 12% lower.
        runs: counted runs of each.

    Returns:
        {(threads, (r, c)): Times}, and the seconds that it all took.
    """
    engine = tuner.engine
    rng = np.random.default_rng(0)
    order = engine.weights.order
    live_threads = engine.threads
    start = time.perf_counter()
    times: dict[tuple[int, Candidate], Times] = {}
    for threads in counts:
        engine.use_threads(threads)
        for candidate in order:
            times[threads, candidate] = Times()
        for turn in range(-WARM_UP, runs):
            for k in rng.permutation(len(order)):
                took = tuner.time_once(order[k])
                if turn >= 0:
                    times[threads, order[k]].runs.append(took)
    engine.use_threads(live_threads)
    return times, time.perf_counter() - start


def judge(
    chosen: Candidate,
    times: Mapping[Candidate, Times],
    order: Sequence[Candidate],
    budget: float,
    noise: Mapping[Candidate, float],
) -> Verdict:
    """Whether `chosen` is the best of `order` (best first) that keeps both promises by exhaustive `times`.

    It is within noise of that where no better candidate clearly fits and the worse of the two does not
    clearly exceed the budget.

    Args:
        budget: ms.
        noise: by which share of the budget a candidate's required budget is uncertain.
    """
    required = required_budgets(times)
    fitting = [candidate for candidate in order if required[candidate] <= budget]
    best = fitting[0] if fitting else min(required, key=required.__getitem__)
    if chosen == best:
        return "best"
    better, worse = sorted((chosen, best), key=order.index)
    passed_over = order[order.index(better) : order.index(worse)]
    none_clearly_fits = all(required[k] >= budget * (1 - noise[k]) for k in passed_over)
    not_clearly_over = required[chosen] <= budget * (1 + noise[chosen])
    return "noise" if none_clearly_fits and not_clearly_over else "worse"


def choosing(engine: Engine, budgets: int = 40, seed: int = 0, runs: int = MAX_RUNS // 2) -> ChoosingResults:
    """The choice for random budgets against exhaustive timing in the same run, and what choosing costs.

    Exhaustive times are divided by their half's drift: S4 answers for the device as it was when it was timed
    (a visit corrects for later by its pace), so the best is asked for the same device. What S4 itself reads
    too low throughout does not show here, but in `promise`. Where the required budgets by the two halves
    differ, timing everything does not know the best either.

    Args:
        runs: of each candidate in each half.
    """
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        tuner = Tuner(engine, folder)
        made = _attempts(tuner, runs)
        start = time.perf_counter()
        Tuner(engine, folder).verify(FIRST_BUDGET)
        verify_s = time.perf_counter() - start
    steadiest = min(made, key=_unsteadiness)
    tuner.times = steadiest.tuned
    drawn = _random_budgets(steadiest, budgets, np.random.default_rng(seed))
    start = time.perf_counter()
    answers = [tuner.answer(budget) for budget in drawn]
    answer_ms = (time.perf_counter() - start) * 1e3 / budgets
    chosen = [candidate_of(choice) for choice in answers if choice is not None]
    noise = _noise(steadiest)
    verdicts = _verdicts(steadiest, engine.weights.order, chosen, drawn, noise)
    return {
        "budgets": budgets,
        "best": round(verdicts.count("best") / budgets, 3),
        "within_noise": round(verdicts.count("noise") / budgets, 3),
        "worse": round(verdicts.count("worse") / budgets, 3),
        "noise": round(float(np.median(list(noise.values()))), 3),
        "seconds": round(steadiest.choosing_s, 2),
        "exhaustive_seconds": round(steadiest.exhaustive_s, 2),
        "share_of_exhaustive": round(steadiest.choosing_s / steadiest.exhaustive_s, 3),
        "answer_ms": round(answer_ms, 2),
        "verify_s": round(verify_s, 2),
        "threads": steadiest.threads,
        "drift": round(steadiest.unsteadiness, 3),
        "attempts": len(made),
    }


def _unsteadiness(attempt: Attempt) -> float:
    return attempt.unsteadiness


def _attempts(tuner: Tuner, runs: int) -> list[Attempt]:
    """Attempts until one is STEADY, or ATTEMPTS of them."""
    made: list[Attempt] = []
    for _ in range(ATTEMPTS):
        made.append(_attempt(tuner, runs))
        if made[-1].unsteadiness <= STEADY:
            break
    return made


def _attempt(tuner: Tuner, runs: int) -> Attempt:
    """Half of the exhaustive timing comes before the tuning and half after it, all cores next to it: what the
    device does meanwhile is in neither's favour.
    """
    counts = thread_counts(tuner.engine.cores)
    before, before_s = exhaustive(tuner, counts[::-1], runs)
    choice = tuner.choose(FIRST_BUDGET, fresh=True)
    tuner.complete()
    after, after_s = exhaustive(tuner, counts, runs)
    threads = tuner.engine.threads
    before_here = {candidate: t for (n, candidate), t in before.items() if n == threads}
    after_here = {candidate: t for (n, candidate), t in after.items() if n == threads}
    return Attempt(
        tuned=tuner.times,
        threads=threads,
        before=before_here,
        after=after_here,
        choosing_s=choice.get("seconds", 0.0),
        exhaustive_s=before_s + after_s,
        drift=(_drift(before_here, tuner.times), _drift(after_here, tuner.times)),
    )


def _drift(times: TimesOfAll, tuned: TimesOfAll) -> float:
    """How many times slower the median candidate was than in the tuning."""
    return float(np.median([times[candidate].p50 / t.p50 for candidate, t in tuned.items()]))


def _all_times(attempt: Attempt) -> TimesOfAll:
    before, after = attempt.halves_at_tuning_pace()
    return {candidate: Times(before[candidate].runs + after[candidate].runs) for candidate in before}


def _random_budgets(attempt: Attempt, count: int, rng: np.random.Generator) -> list[float]:
    """Budgets in ms from below the fastest sub-model's p90 to above the slowest's, even on a log scale."""
    p90s = [t.p90 for t in _all_times(attempt).values()]
    low = math.log(min(p90s) * BELOW_FASTEST)
    high = math.log(max(p90s) * ABOVE_SLOWEST)
    return [float(budget) for budget in np.exp(rng.uniform(low, high, count))]


def _noise(attempt: Attempt) -> dict[Candidate, float]:
    """By which share each candidate's required budgets by both halves differ, at least the timing margin."""
    before, after = (required_budgets(half) for half in attempt.halves_at_tuning_pace())
    return {
        candidate: max(abs(before[candidate] / after[candidate] - 1), TIMING_MARGIN - 1)
        for candidate in before
    }


def _verdicts(
    attempt: Attempt,
    order: Sequence[Candidate],
    chosen: Sequence[Candidate],
    budgets: Sequence[float],
    noise: Mapping[Candidate, float],
) -> list[Verdict]:
    times = _all_times(attempt)
    return [
        judge(candidate, times, order, budget, noise)
        for candidate, budget in zip(chosen, budgets, strict=True)
    ]
