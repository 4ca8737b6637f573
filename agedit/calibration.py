"""S63 in years: which alpha makes a face look so many years older, and how far a face can go."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from agedit.errors import AgeEditError


class Calibration:
    """The calibration table of the weights, which `training.calibrate` measures.

    Args:
        table: the manifest's `calibration` (see `manifest.Calibration` for its shape).
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.years: list[float] = table["years"]
        """Changes of age, rising, that the table covers."""
        self.ages: list[float] = table["ages"]
        """Apparent ages of its rows."""
        self.blurs: list[float] = table["blurs"]
        """Blurs of photos, as `tone.photo_blur` measures them."""
        self.youngest: float = table["youngest"]
        """Apparent age below which the networks know few people."""
        self.oldest: float = table["oldest"]
        """Apparent age above which they know few."""
        self.child_ages: list[float] = table["children"]["ages"]
        """Apparent ages between which childhood ends."""
        self.child_years: list[float] = table["children"]["years"]
        """Years up to which a child of each of these ages goes."""
        self.alphas = {(part["r"], part["c"]): part["alpha"] for part in table["submodels"]}
        """{(r, c): alpha by blur, age and years}."""

    @property
    def years_range(self) -> tuple[float, float]:
        """(lowest, highest) change in years that the table covers."""
        return min(self.years), max(self.years)

    def check(self, years: float) -> None:
        """Raise AgeEditError unless `years` is a number within `years_range`."""
        low, high = self.years_range
        # NumPy's integers and floats are Real too; nan is in no range
        if not (isinstance(years, Real) and low <= years <= high):
            raise AgeEditError(
                f"{years} years is out of range; choose a change between {low} and {high} years."
            )

    def reach(self, age: float) -> tuple[float, float]:
        """(lowest, highest) change in years that anything comes of for a face of an apparent `age`.

        The networks know few people beyond. With more years a small child, whose face does not grow here,
        only looks like an old baby.
        """
        grown = float(np.interp(age, self.child_ages, self.child_years))
        return min(0, self.youngest - age), max(0, min(self.oldest - age, grown))

    def alpha(self, years: float, age: float, blur: float, r: int, c: float) -> float:
        """Edit strength with which G_{r,c} makes a face look `years` older (S63).

        By the table; constant beyond its ends and beyond `reach`.

        Args:
            age: apparent age of the face.
            blur: of the photo, see `tone.photo_blur`: in a soft one the same alpha shows less.
        """
        years = float(np.clip(years, *self.reach(age)))
        by_blur = []
        for rows in self.alphas[r, c]:
            by_age = [np.interp(years, self.years, row) for row in rows]
            by_blur.append(np.interp(age, self.ages, by_age))
        return float(np.interp(blur, self.blurs, by_blur))
