"""The direction of age without expression.

Found in a world where everything is known; and the measures of a face's expression.
"""

import numpy as np
import pytest

from agedit import AgeEditError
from agedit.estimators import EXPRESSION_MEASURES, expression_measures
from agedit.training.direction import FREED, GREY, MEASURES, OLDER, UNIT, fit_direction


class World:
    """An observer for which each measure is one number of W, but age also moves with two of the others."""

    def __init__(self, size=12, seen=1.0):
        self.teacher, self.size, self.seen = self, size, seen

    def person(self, rng, psi):
        return psi * rng.standard_normal((1, self.size))

    def __call__(self, w, offset):
        v = (w[0] + offset)[: len(MEASURES)]
        return v * UNIT * np.array([self.seen] + [1] * (len(MEASURES) - 1))


def test_age_is_freed_from_what_moved_with_it():
    start = np.zeros(12)
    start[[0, 1, 2]] = 1, 0.4, -0.5  # older, more male, the mouth's corners higher
    direction, grey, before, after = fit_direction(World(), start, people=60)
    assert abs(before[1:3] / UNIT[1:3]).min() > 1
    assert (abs(after[FREED] / UNIT[FREED]) < 0.1 * after[0] / UNIT[0]).all()
    step = World()(np.zeros((1, 12)), direction) / UNIT
    assert step[0] == pytest.approx(before[0] / UNIT[0] / 7, rel=0.05)  # as many years a step as before
    older = World()(np.zeros((1, 12)), OLDER * (direction + grey)) / UNIT
    assert older[-2:] == pytest.approx(GREY, abs=0.1)  # hair turns grey, and nothing else
    assert abs(older[FREED] - OLDER * step[FREED]).max() < 0.1


def test_a_teacher_without_age_is_refused():
    with pytest.raises(AgeEditError, match="Little of the age"):
        fit_direction(World(seen=-1.0), np.eye(12)[0] * 0.2 + np.eye(12)[1], people=60)


def test_expression_is_upright_and_free_of_scale():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (478, 2))
    points[[33, 133, 362, 263]] = (20, 40), (40, 40), (60, 40), (80, 40)
    points[[61, 291, 13, 14]] = (35, 82), (65, 82), (50, 78), (50, 80)
    points[[107, 336]] = (42, 30), (58, 30)
    found = dict(zip(EXPRESSION_MEASURES, expression_measures(points), strict=True))
    assert found == pytest.approx(
        {
            "mouth_corner_drop": 3 / 40,
            "mouth_open": 2 / 40,
            "mouth_width": 30 / 40,
            "brow_height": 10 / 40,
            "brow_gap": 16 / 40,
        }
    )
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    assert expression_measures(points @ turn.T * 3 + 7) == pytest.approx(expression_measures(points))
