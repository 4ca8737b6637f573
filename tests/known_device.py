"""The page on a device that was timed before, so that no test waits for timing and none disturbs another.

Run as a program, this is `python app.py`, but for a profile that is believed however busy the machine is.
"""

import math
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_profile(folder: Path) -> None:
    """A profile of this device in which every sub-model was timed; one run stands for all of its runs."""
    from agedit import Engine
    from agedit.selection import profiles
    from agedit.selection.budget import MIN_RUNS
    from agedit.selection.times import Times
    from agedit.selection.tuner import Tuner

    tuner = Tuner(Engine(), folder)
    times = {}
    for candidate in tuner.engine.weights.candidates:
        with tuner.engine.passing([candidate]):
            tuner.time_once(candidate)  # loads it
            times[candidate] = Times([tuner.time_once(candidate)] * MIN_RUNS)
    profiles.write(tuner.path, tuner.device, times)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from agedit.selection.drift import DriftWatch

    DriftWatch.TOLERANCE = math.inf
    runpy.run_path(str(ROOT / "app.py"), run_name="__main__")
