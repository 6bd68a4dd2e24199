"""How a verdict spends its error over looks that come a seed at a time.

Each contrast is tested by its own paired t statistic after 3, 4, ... seeds, up to a declared cap. The error that may be
spent by the time a share of the cap is in follows Lan and DeMets (Biometrika 70, 1983) in the form that resembles
O'Brien and Fleming's boundary: next to nothing early, nearly all at the end. The joint distribution of the statistics
under the null depends on nothing unknown, so critical values are drawn by one seeded Monte Carlo.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import special

FIRST_LOOK = 3
"""Seeds before the first look, unless the cap is lower: with two, a t statistic has one degree of freedom."""
_DRAWS = 4_000_000


def error_spent(share: float, error: float) -> float:
    """The error that may be spent by the time this share of the seeds is in.

    `2 - 2 Phi(z / sqrt(share))` with `z` the upper `error / 2` point of the normal distribution.

    Args:
        share: of the cap, in (0, 1].
        error: one-sided, in (0, 1), of all looks together.
    """
    return float(2 * special.ndtr(special.ndtri(error / 2) / np.sqrt(share)))


@functools.cache
def critical_values(cap: int, confidence: float) -> tuple[float, ...]:
    """What a t statistic has to exceed after n pairs, by n from 0 to `cap`; inf where there is no look.

    The first is exact; at 4 million draws the others are within about 1 % of what they stand for.

    Args:
        cap: the most seeds, at least 2.
        confidence: of all looks together, in (0, 1).
    """
    if cap < 2:
        raise ValueError(f"a cap of {cap} seeds leaves nothing to pair; allowed: 2 or more")
    first, error = min(FIRST_LOOK, cap), 1 - confidence
    # Where the first look is the last, there is nothing to draw.
    draws = _DRAWS if cap > first else 2
    rng = np.random.default_rng(0)
    total, squares = np.zeros(draws), np.zeros(draws)
    values, spent = [np.inf] * first, 0.0
    for n in range(1, cap + 1):
        drawn = rng.standard_normal(len(total))
        total += drawn
        squares += drawn**2
        if n < first:
            continue
        now = error_spent(n / cap, error)
        if n == first:
            values.append(float(special.stdtrit(n - 1, 1 - now)))
        statistic = total / np.sqrt(n * (squares - total**2 / n) / (n - 1))
        if n > first:
            # Those that crossed before are gone: what is left is what may still be spent.
            crossing = round((now - spent) * draws)
            values.append(float(np.partition(statistic, -crossing - 1)[-crossing - 1]))
        spent = now
        kept = statistic <= values[-1]
        total, squares = total[kept], squares[kept]
    return tuple(values)
