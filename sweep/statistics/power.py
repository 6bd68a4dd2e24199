"""Power before the run: how likely a truly equal rank is to pass, and the seeds that would be enough.

For one rival the power is exact: the t statistic of the paired differences follows the noncentral t
distribution with n - 1 degrees of freedom and noncentrality gap * sqrt(n) / sd, where gap is the distance
between the true difference and the bound it has to clear (the tolerance, for equal ranks).

For several rivals the tests share the candidate's own scores and are not independent, so the power is
simulated, as it is where a rank must be shown to have learned too. Collapse is not part of it: power here is
about scores, given that training does not collapse.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import special

from sweep.statistics.paired import bound_contrasts
from sweep.statistics.rule import Rule

TARGET_POWER = 0.8
"""The customary power to plan for (Cohen, 1988)."""

MOST_SEEDS = 1000
"""Beyond this a plan is not worth printing."""

_DRAWS = 4000
_DRAWS_AT_ONCE = 400


def power_against_one(gap: float, sd_of_difference: float, n_seeds: int, confidence: float) -> float:
    """Probability that a one-sided paired t bound clears a threshold that lies `gap` away from the truth.

    Args:
        gap: distance from the threshold to the true mean difference; positive on the side to be shown.
        sd_of_difference: standard deviation of the paired difference between two ranks, >= 0.
        n_seeds: shared seeds.
        confidence: of the bound, in (0, 1).

    Returns:
        In [0, 1]; 0 with fewer than two seeds.
    """
    if n_seeds < 2:
        return 0.0
    if sd_of_difference == 0:
        return float(gap > 0)
    # nct is nan beyond any sensible noncentrality, which an sd made of rounding errors can reach.
    noncentrality = float(np.clip(gap * math.sqrt(n_seeds) / sd_of_difference, -1e4, 1e4))
    critical = special.stdtrit(n_seeds - 1, confidence)
    power = 1 - float(special.nctdtr(n_seeds - 1, noncentrality, critical))
    if math.isnan(power):  # as it is in SciPy 1.17, here and there, where the power is all but 0 or 1
        from scipy import stats  # it loads three times as long as the rest

        power = float(stats.nct.sf(critical, n_seeds - 1, noncentrality))
    return power


def step_power(rule: Rule, *, gain: float, noise_sd: float, n_seeds: int, n_rivals: int, base_sd: float = 0.0) -> float:
    """Probability that a rank exactly as good as each of its rivals passes against all of them, and has learned.

    4,000 seeded studies of equal ranks with normal noise, independent between ranks once seeds are paired, weighed as
    a verdict weighs them; standard error <= .008.

    Args:
        rule: as declared; its part about scores.
        gain: true gain of every rank over the base policy, in units of score; nan where it is not known, which only
            a tolerance can do without.
        noise_sd: standard deviation of a rank's score between seeds, >= 0.
        n_seeds: seeds per rank.
        n_rivals: judged ranks besides the candidate, >= 0.
        base_sd: standard deviation of the base policy's score between seeds, which all ranks of a seed share.
    """
    if n_seeds < 2:
        return 0.0
    if math.isnan(gain):
        rule, gain = replace(rule, gains=False), 0.0
    rng = np.random.default_rng(0)
    shares, thresholds = rule.shares(n_rivals + 1), rule.thresholds(n_rivals + 1)[0]
    passed = 0
    # In slices, so that memory stays small however many seeds are asked about.
    for _ in range(_DRAWS // _DRAWS_AT_ONCE):
        gains = gain + rng.normal(0.0, noise_sd, size=(_DRAWS_AT_ONCE, n_rivals + 1, n_seeds))
        gains -= rng.normal(0.0, base_sd, size=(_DRAWS_AT_ONCE, 1, n_seeds))
        bounds = bound_contrasts(gains, np.ones(gains.shape, dtype=np.bool_), shares, rule.bound_confidence)
        # The first rank stands for all: they are equal, so each passes as often as any other.
        passed += int((bounds.lower[:, 0, :] > thresholds).all(axis=-1).sum())
    return passed / _DRAWS


def smallest_gap(sd_of_contrast: float, n_seeds: int, n_rivals: int, confidence: float) -> float:
    """The gap that so many seeds show against all rivals with `TARGET_POWER`: `seeds_for_power`, inverted.

    Args:
        sd_of_contrast: standard deviation of the contrast between seeds, >= 0.
        n_seeds: shared seeds.
        n_rivals: rivals that are this close; >= 1.
        confidence: in (0, 1).

    Returns:
        In units of score; inf with fewer than two seeds.
    """
    if n_seeds < 2:
        return math.inf
    if sd_of_contrast == 0:
        return 0.0
    each = 1 - (1 - TARGET_POWER) / n_rivals
    low, high = 0.0, 1.0
    while power_against_one(high, 1.0, n_seeds, confidence) < each:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power_against_one(middle, 1.0, n_seeds, confidence) >= each else (middle, high)
    return high * sd_of_contrast


def seeds_for_power(gap: float, sd_of_difference: float, n_rivals: int, confidence: float) -> int | None:
    """Seeds per rank with which a rank passes against all rivals with at least `TARGET_POWER`.

    Exact for one rival. For m rivals each comparison is given power 1 - (1 - `TARGET_POWER`) / m (Bonferroni's
    inequality), which guarantees the whole and asks for a seed or two more than needed.

    Args:
        gap: as in `power_against_one`; the tolerance, when the ranks are thought to be equal.
        sd_of_difference: as in `power_against_one`.
        n_rivals: rivals that are this close; >= 1.
        confidence: in (0, 1).

    Returns:
        At least 2; None when `MOST_SEEDS` would not be enough.
    """
    if gap <= 0:
        return None
    each = 1 - (1 - TARGET_POWER) / n_rivals

    def enough(n_seeds: int) -> bool:
        return power_against_one(gap, sd_of_difference, n_seeds, confidence) >= each

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
