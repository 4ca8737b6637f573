"""S4 against a simulated clock: the best candidate is found, through noise, outliers and a drifting device."""
import random

import pytest

from agedit.selector import Selector, Times, frontier, percentile

COST = {(64, 0.25): 0.2e9, (64, 1.0): 3.4e9, (128, 0.25): 0.34e9, (128, 0.5): 1.3e9, (128, 0.75): 3.0e9, (128, 1.0): 5.3e9}
ORDER = [(128, 1.0), (128, 0.75), (64, 1.0), (128, 0.5), (128, 0.25), (64, 0.25)]     # (64, 1) is dominated


class Device:
    """Runs nothing: a candidate takes 5 ms and 10 ms a G MAC, times noise and whatever `slow` says."""

    def __init__(self, noise=0.02, outliers=0.0, slow=lambda now: 1.0, seed=0):
        self.now, self.runs, self.random = 0.0, 0, random.Random(seed)
        self.noise, self.outliers, self.slow = noise, outliers, slow

    def truth(self, candidate):
        return 5 + 10 * COST[candidate] / 1e9

    def run(self, candidate):
        ms = self.truth(candidate) * self.slow(self.now) * (1 + abs(self.random.gauss(0, self.noise)))
        if self.random.random() < self.outliers:
            ms *= 4
        self.now += ms / 1e3
        self.runs += 1

    def select(self, budget, **kwargs):
        selector = Selector(ORDER, COST.get, self.run, clock=lambda: self.now, **kwargs)
        return selector, selector.choose(budget)


def test_percentile_and_frontier():
    assert percentile([5, 1, 3], 0.5) == 3 and percentile(range(1, 11), 0.9) == 9
    assert (64, 1.0) not in frontier(ORDER, COST.get) and len(frontier(ORDER, COST.get)) == 5


@pytest.mark.parametrize("budget,expected", [(10, (128, 0.25)), (20, (128, 0.5)), (40, (128, 0.75)), (100, (128, 1.0)),
                                             (7.5, (64, 0.25))])
def test_takes_the_best_that_fits_and_logs_why(budget, expected):
    selector, (choice, fits) = Device().select(budget)
    assert (choice, fits) == (expected, True)
    assert selector.tried[-1]["verdict"] == "chosen" and all(e["reason"] for e in selector.tried)
    assert len([e for e in selector.tried if e["verdict"] == "chosen"]) == 1


@pytest.mark.parametrize("seed", range(10))
def test_survives_noise_and_outliers(seed):
    device = Device(noise=0.06, outliers=0.03, seed=seed)
    _, (choice, fits) = device.select(45)
    assert fits and choice == (128, 0.75)


def test_a_budget_that_nothing_meets_runs_the_smallest_and_says_so():
    selector, (choice, fits) = Device().select(2)
    assert (choice, fits) == ((64, 0.25), False)
    assert "smallest" in selector.tried[-1]["reason"]


def test_a_device_that_slows_down_while_timing_gets_a_smaller_choice():
    device = Device(slow=lambda now: 1.0 if now < 1.5 else 1.8)
    _, (choice, fits) = device.select(61)
    final = device.truth(choice) * 1.8
    assert fits and final <= 61 * 1.1


def test_a_burst_of_another_program_does_not_reject_a_fitting_candidate():
    device = Device(slow=lambda now: 1.25 if 0.15 < now < 1.2 else 1.0)
    _, (choice, fits) = device.select(62)
    assert fits and choice == (128, 1.0)


def test_hopeless_candidates_cost_no_runs():
    device = Device()
    selector, _ = device.select(9.5)
    skipped = [e["submodel"] for e in selector.tried if e["verdict"] == "skipped"]
    assert (128, 1.0) in skipped or len(selector.times.get((128, 1.0), Times()).runs) <= 3


def test_known_times_answer_without_a_run():
    device = Device()
    selector, first = device.select(40)
    runs = device.runs
    again = Selector(ORDER, COST.get, device.run, clock=lambda: device.now, times=selector.times).choose(40)
    assert again == first and device.runs == runs
