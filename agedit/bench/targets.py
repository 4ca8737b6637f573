"""What each figure of the bench should be."""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from agedit.submodel import Submodel


@dataclass(frozen=True)
class Target:
    """What a figure should be.

    text: in words, such as "< 3 s".
    test: whether a figure is so.
    """

    text: str
    test: Callable[[float], bool]


def at_least(bound: float, text: str) -> Target:
    """A figure of `bound` or more."""
    return Target(text, partial(operator.le, bound))


def at_most(bound: float, text: str) -> Target:
    """A figure of `bound` or less."""
    return Target(text, partial(operator.ge, bound))


def below(bound: float, text: str) -> Target:
    """A figure under `bound`."""
    return Target(text, partial(operator.gt, bound))


YARDSTICK_SHARES: dict[Submodel, float] = {
    (128, 1.0): 0.85,
    (256, 1.0): 0.80,
    (1024, 1.0): 0.60,
    (256, 0.25): 0.50,
    (1024, 0.25): 0.30,
}
"""Least share of the plain convolutions' rate that a sub-model should reach."""

NARROW_SPEEDUPS: dict[int, float] = {256: 7.0, 512: 5.0, 1024: 5.0}
"""Least times as fast that c = 1/4 should be as c = 1, by resolution in pixels."""

PEER_RATIOS: dict[str, float] = {"mobilestylegan": 3, "unet": 30}
"""Least times as long that a peer should take as the sub-model chosen for 100 ms."""


def share_target(submodel: Submodel) -> Target | None:
    """Of the rate that a sub-model reaches, as a share of the plain convolutions'."""
    share = YARDSTICK_SHARES.get(submodel)
    return None if share is None else at_least(share, f">= {share:.0%}")


def narrow_target(resolution: int) -> Target | None:
    """Of the time of c = 1 over that of c = 1/4."""
    speedup = NARROW_SPEEDUPS.get(resolution)
    return None if speedup is None else at_least(speedup, f">= {speedup:g}")


def peer_target(name: str) -> Target:
    """Of a peer's time over that of the sub-model chosen for 100 ms."""
    return at_least(PEER_RATIOS[name], f">= {PEER_RATIOS[name]:g}")


EXTRACT_MS = below(300, "< 300 ms")
"""Slicing a sub-model out of the weights, the slowest one."""

MOVE_SHARE = at_least(0.95, ">= 95%")
"""Share of a slider's move that is generate, blend and encode."""

SWITCH_RATIO = at_most(1.1, "<= 1.1")
"""A move right after another warm sub-model's, over one after its own."""

PRECISION_LEVELS = below(1, "< 1 level")
"""Mean difference of 255 between the picture in the precision that runs and fp32's."""

PAGE_SECONDS = below(3, "< 3 s")
"""From `python app.py` to the page's first answer."""

FIRST_EDIT_SECONDS = below(1, "< 1 s")
"""From a photo's arrival to its first edit."""

PAGE_MEMORY_MB = below(700, "< 700 MB")
"""Most memory that the page ever held, with three edits."""

TORCH = Target("False", operator.not_)
"""Whether an edit imports torch."""

BEST_SHARE = at_least(0.95, ">= 95%")
"""Share of random budgets for which the choice is the best, within the timings' noise."""

CHOOSING_SHARE = at_most(0.2, "<= 20%")
"""Time of choosing over that of timing everything."""

BUDGET_SHARE = at_most(1, "<= 100%")
"""p90 of the edits over the waiting budget: the first promise."""

TAIL_SHARE = at_least(0.99, ">= 99%")
"""Share of the edits within 1.25 budgets: the second promise."""

OWN_OVER_PEER = at_most(1, "<= 1")
"""Time of our 1024 px network over MobileStyleGAN's."""

GROWTH = at_most(1.2, "<= 1.2")
"""Cost over what it should be in proportion, for large photos, several faces and several visitors."""

LOST = Target("0", operator.not_)
"""Edits of visitors at once that never came."""

UNEVEN = at_most(1.2, "<= 1.2")
"""Time of the last visitor to finish over the first one's."""
