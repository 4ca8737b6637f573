"""The page on a device that was timed before, so that no test waits for timing and none disturbs another.

Run as a program, this is `python app.py`, but for two things: its profile is believed however busy the
machine is, and it offers sub-models of 64 and 128 px only.
"""

import math
import runpy
from pathlib import Path

from agedit import Engine
from agedit.selection import profiles
from agedit.selection.budget import MIN_RUNS
from agedit.selection.drift import DriftWatch
from agedit.selection.times import Times
from agedit.selection.tuner import Tuner
from ui import service

ROOT = Path(__file__).resolve().parent.parent


def small_engine(largest: int = 128) -> Engine:
    """An engine that offers sub-models up to this many pixels only: all of them cost ten times as much."""
    engine = Engine()
    engine.weights.manifest |= {
        "resolutions": [r for r in engine.weights.resolutions if r <= largest],
        "quality_order": [[r, c] for r, c in engine.weights.order if r <= largest],
    }
    return engine


def write_profile(folder: Path) -> None:
    """A profile of this device in which all of them were timed; one run stands for all of its runs."""
    tuner = Tuner(small_engine(), folder)
    times = {}
    for candidate in tuner.engine.weights.candidates:
        tuner.time_once(candidate)  # loads it
        times[candidate] = Times([tuner.time_once(candidate)] * MIN_RUNS)
    profiles.write(tuner.path, tuner.device, times)


if __name__ == "__main__":
    DriftWatch.TOLERANCE = math.inf
    service.Engine = small_engine
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
