"""What a mean reward may be off by, with nothing behind it: by rounding, and by which prompts and samples it is of."""

from __future__ import annotations

import math

DOUBLE, SINGLE = 1e-9, 2.5e-7
"""Of a reward's size: what a mean may be off by that was taken in double precision, as scores on held-out prompts are,
or in single precision, as those of training steps are."""


def rounding(*rewards: float, precision: float = DOUBLE) -> float:
    """What the difference of two means of this size may be though they are means of the same; NaN is passed over."""
    return precision * max((abs(reward) for reward in rewards if math.isfinite(reward)), default=0.0)


def sampling_error(spread: float, prompts: float) -> float:
    """Standard error of the difference between two scores, each on so many prompts."""
    return math.sqrt(2 / prompts) * spread
