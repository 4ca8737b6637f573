"""Which gradients are used: one bad batch must not undo an hour."""

import math

# How fast the running mean of the gradient's norm follows.
FOLLOW = 0.05
# Times the mean that a norm counts for at most in the mean.
COUNTED = 4.0


class GradientGuard:
    """Refuses a gradient that is not finite, or many times as long as gradients have been.

    Args:
        longest: times the running mean of the norm; longer gradients are refused.
    """

    def __init__(self, longest: float = math.inf) -> None:
        self.longest = longest
        self.mean: float | None = None
        self.skipped = 0

    def accepts(self, norm: float) -> bool:
        """Whether a gradient of this norm is to be used; counts it in `skipped` if not."""
        usable = math.isfinite(norm)
        if usable:  # the mean learns from finite norms alone: a nan would stay in it for good
            self._follow(norm)
            usable = norm <= self.longest * self.mean if self.mean else True
        if not usable:
            self.skipped += 1
        return usable

    def _follow(self, norm: float) -> None:
        if not self.mean:
            self.mean = norm
        else:
            self.mean += FOLLOW * (min(norm, COUNTED * self.mean) - self.mean)
