"""Live edits against what was expected of them."""

import math
from collections import deque

from agedit.selection.times import percentile

PACE_MIN_EDITS = 5
"""Edits below which a visit's own pace is not known."""

PACE_TOLERANCE = 1.03
"""A pace below this many times the timed one is noise."""


class DriftWatch:
    """Notices a laptop that went on battery, or another program's load.

    The drift is the median of the last WINDOW ratios of measured to expected time, so single outliers do not
    move it. A photo may cost more or less than the one that was timed without any drift: `accept` makes what
    was seen the new normal.
    """

    WINDOW = 9
    """Edits that the drift is the median of."""

    TOLERANCE = 0.25
    """Share by which edits may be slower or faster before that is a drift."""

    def __init__(self) -> None:
        self.ratios: deque[float] = deque(maxlen=self.WINDOW)
        self.normal = 1.0

    def observe(self, expected: float, took: float) -> None:
        """Add an edit. Both in ms; `expected` is the candidate's p50 when it was timed."""
        if expected > 0 and took > 0:
            self.ratios.append(took / expected)

    @property
    def drift(self) -> float:
        """How many times slower than expected; 1.0 while within tolerance or too early to tell."""
        if len(self.ratios) < self.WINDOW:
            return 1.0
        median = percentile(self.ratios, 0.5) / self.normal
        outside = abs(math.log(median)) > math.log(1 + self.TOLERANCE)
        return median if outside else 1.0

    @property
    def pace(self) -> float:
        """How many times slower than timed a visit's edits are: a costly photo gets a smaller sub-model."""
        if len(self.ratios) < PACE_MIN_EDITS:
            return 1.0
        median = percentile(self.ratios, 0.5)
        return median if median > PACE_TOLERANCE else 1.0

    def accept(self) -> None:
        """The device was checked and is as fast as ever: what was seen is this photo's own cost."""
        self.normal = percentile(self.ratios, 0.5) if self.ratios else 1.0

    def clear(self) -> None:
        """The device was timed again: start over."""
        self.ratios.clear()
        self.normal = 1.0
