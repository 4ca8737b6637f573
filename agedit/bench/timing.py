"""Timing things against each other: in turns, in random order, by medians.

Absolute times change with what else the machine does; ratios of interleaved runs do not.
"""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from agedit.clock import milliseconds_since
from agedit.selection.times import Times

Key = TypeVar("Key", bound=Hashable)

Task = Callable[[], object]
"""Something to time: one call is one run."""

Progress = Callable[[int, int], object]
"""Called with (rounds done, rounds in all)."""

RUNS = 9
"""Counted runs of each task."""

WARM_UP = 2
"""Runs of each task that are not counted: the first compiles and allocates."""


def milliseconds(task: Task) -> float:
    """What one run of `task` takes."""
    start = time.perf_counter()
    task()
    return milliseconds_since(start)


def median(values: Sequence[float], skip: int = 0) -> float:
    """The median of `values` without the first `skip`."""
    return float(np.median(values[skip:]))


def interleaved(
    tasks: Mapping[Key, Task], runs: int = RUNS, tell: Progress | None = None, again: bool = False
) -> dict[Key, Times]:
    """Times of `tasks`, all in turns and in random order, after warm-up.

    Args:
        runs: counted runs of each task.
        again: run each task twice and count the second run, as of a slider's moves, each of which finds the
            processor's caches as the one before left them.
    """
    rng = np.random.default_rng(0)
    names = list(tasks)
    times = {name: Times() for name in names}
    for turn in range(-WARM_UP, runs):
        for k in rng.permutation(len(names)):
            if again:
                tasks[names[k]]()
            took = milliseconds(tasks[names[k]])
            if turn >= 0:
                times[names[k]].runs.append(took)
        if tell:
            tell(turn + WARM_UP + 1, runs + WARM_UP)
    return times
