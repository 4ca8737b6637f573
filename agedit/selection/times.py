"""What was timed of one candidate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from agedit.submodel import Submodel

Candidate: TypeAlias = Submodel
"""A sub-model that S4 may choose."""


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0..1) of them do not exceed."""
    ordered = sorted(values)
    rank = math.ceil(share * len(ordered))
    return ordered[max(0, rank - 1)]


@dataclass
class Times:
    """Counted runs of one candidate, in milliseconds."""

    runs: list[float] = field(default_factory=list)

    @property
    def p50(self) -> float:
        """Median, ms."""
        return percentile(self.runs, 0.5)

    @property
    def p90(self) -> float:
        """90th percentile, ms."""
        return percentile(self.runs, 0.9)

    def far_from(self, budget: float, tolerance: float) -> bool:
        """Whether p90 lies at least `tolerance` (a share of the budget) away from `budget` ms."""
        return abs(self.p90 / budget - 1) >= tolerance
