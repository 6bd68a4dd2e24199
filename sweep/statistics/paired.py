"""Paired comparisons between ranks that were trained on the same seeds.

Every bound here is Student's t on paired differences: for differences with mean m and standard deviation
s (ddof 1) over n seeds, the one-sided bounds at confidence c are m -/+ t(c; n - 1) * s / sqrt(n). A
percentile bootstrap is not offered: with three to five seeds it covers well below its nominal level.

Bounds are conditional on the seeds they are computed from. Where collapsed trials are left out, they speak
of the score *given that training did not collapse*; collapse is judged apart, in `collapse`.

Degenerate cases, everywhere in this module:
    fewer than two seeds: nothing is known, the bounds are -inf and +inf;
    all differences equal: both bounds are the mean itself (a t interval of width zero).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairedBounds:
    """What each rank has over a share of every other, on average over seeds, with one-sided bounds.

    All arrays have shape (..., n_ranks, n_ranks); entry [..., i, j] is about rank i minus a share of rank j.
    Where the share is 1 it is a plain difference, and `lower[i, j] == -upper[j, i]`.
    """

    n_seeds: IntArray
    """Seeds usable for both ranks."""
    mean: FloatArray
    """Mean contrast; nan without a shared seed."""
    sd: FloatArray
    """Standard deviation of the contrast between seeds (ddof 1); nan with fewer than two shared seeds."""
    lower: FloatArray
    """One-sided lower bound on the true mean contrast."""
    upper: FloatArray
    """One-sided upper bound on the true mean contrast."""


def bound_differences(scores: ArrayLike, usable: ArrayLike, confidence: float) -> PairedBounds:
    """Compare every rank with every other over the seeds usable for both.

    Args:
        scores: shape (..., n_ranks, n_seeds), higher is better; anything where not usable, nan included.
            Leading axes are independent studies.
        usable: same shape, bool; False where the trial collapsed or did not run.
        confidence: of each one-sided bound, in (0, 1).

    Returns:
        Plain differences; the diagonal compares a rank with itself: zero, or unknown (-inf, +inf) when the
        rank has fewer than two usable seeds.
    """
    return bound_contrasts(scores, usable, 1.0, confidence)


def bound_contrasts(
    scores: ArrayLike, usable: ArrayLike, shares: ArrayLike, confidence: float, *, least_sd: ArrayLike = 0.0
) -> PairedBounds:
    """Compare every rank with a share of every other over the seeds usable for both.

    A share is fixed beforehand, so the contrast is linear in the scores of a seed and the t bound on its mean
    is as exact as that of a difference.

    Args:
        scores: as in `bound_differences`.
        usable: as in `bound_differences`.
        shares: of rank j that rank i is held against; broadcasts to (n_ranks, n_ranks).
        confidence: of each one-sided bound, in (0, 1).
        least_sd: what a contrast's standard deviation is taken for at least; broadcasts to (..., n_ranks, n_ranks).
    """
    n_seeds, mean, sd = _moments(*_contrasts(scores, usable, shares))
    sd = np.maximum(sd, least_sd)
    lower, upper = _t_bounds(n_seeds, mean, sd, confidence)
    return PairedBounds(n_seeds=n_seeds, mean=mean, sd=sd, lower=lower, upper=upper)


def bound_contrasts_repeatedly(
    scores: ArrayLike,
    usable: ArrayLike,
    shares: ArrayLike,
    critical: Sequence[float],
    *,
    rounding: float = 0.0,
    least_sd: ArrayLike = 0.0,
) -> PairedBounds:
    """`bound_contrasts` where seeds are added one by one and every number of them is looked at.

    A bound is the tightest of those after each number of seeds, with critical values for which all of them hold at
    once (repeated confidence intervals: Jennison and Turnbull, JRSS B 51, 1989). So what was shown once stays shown.

    Args:
        scores: as in `bound_differences`, seeds in the order in which they are looked at.
        usable: as in `bound_differences`.
        shares: as in `bound_contrasts`.
        critical: by number of pairs, from 0 to the most; see `spending.critical_values`.
        rounding: before the last look, contrasts that differ by no more are not known: a few that agree are no sign
            of a spread of zero, where rewards have few values.
        least_sd: as in `bound_contrasts`.
    """
    contrasts, shared = _contrasts(scores, usable, shares)
    values, most = np.array(critical), len(critical) - 1
    n_seeds, mean, sd = _moments(contrasts, shared)
    sd = np.maximum(sd, least_sd)
    lower, upper = np.full(mean.shape, -np.inf), np.full(mean.shape, np.inf)
    for k in range(1, contrasts.shape[-1] + 1):
        n, middle, spread = _moments(contrasts[..., :k], shared[..., :k])
        spread = np.maximum(spread, least_sd)
        looked_at = np.isfinite(values[n]) & ((spread > rounding) | (n == most))
        with np.errstate(invalid="ignore", divide="ignore"):
            margin = values[n] * spread / np.sqrt(n)
        lower = np.where(looked_at, np.maximum(lower, middle - margin), lower)
        upper = np.where(looked_at, np.minimum(upper, middle + margin), upper)
    return PairedBounds(n_seeds=n_seeds, mean=mean, sd=sd, lower=lower, upper=upper)


def _contrasts(scores: ArrayLike, usable: ArrayLike, shares: ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Each rank less a share of each other, seed by seed, and where both count: (..., n_ranks, n_ranks, n_seeds)."""
    usable = np.asarray(usable, dtype=np.bool_)
    # NaN times zero is NaN, so what is unusable is made a number before it meets a share.
    scores = np.where(usable, np.asarray(scores, dtype=np.float64), 0.0)
    share = np.asarray(shares, dtype=np.float64)[..., None]
    shared = usable[..., :, None, :] & usable[..., None, :, :]
    return scores[..., :, None, :] - share * scores[..., None, :, :], shared


def mean_interval(scores: Sequence[float], confidence: float) -> tuple[float, float]:
    """Two-sided t interval of one rank's mean score, for display; the verdict does not use it.

    Equals `scipy.stats.t.interval(confidence, n - 1, mean, standard_error)`.

    Args:
        scores: shape (n_seeds,), finite, one rank.
        confidence: of the interval, in (0, 1).

    Returns:
        (lower, upper); (-inf, inf) with fewer than two seeds, (mean, mean) when all scores are equal.
    """
    values = np.array(scores, dtype=np.float64)
    # Two one-sided bounds, each with half of the error, make the two-sided interval.
    lower, upper = _t_bounds(*_moments(values, np.ones(values.shape, dtype=np.bool_)), (1 + confidence) / 2)
    return float(lower), float(upper)


def _moments(values: FloatArray, usable: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Count, mean and standard deviation (ddof 1) over the usable entries of the last axis."""
    n = usable.sum(axis=-1, dtype=np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Without a seed this is 0 / 0, the nan that stands for an unknown mean.
        mean = np.where(usable, values, 0.0).sum(axis=-1) / n
        # From the mean, not by squares less the squared mean: of scores that lie close together nothing would be left.
        deviation = np.where(usable, values - mean[..., None], 0.0)
        sd = np.sqrt(np.square(deviation).sum(axis=-1) / np.where(n > 1, n - 1, np.nan))
    return n, mean, sd


def _t_bounds(n: IntArray, mean: FloatArray, sd: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Lower and upper one-sided bounds, each at `confidence`; same shape as `mean`."""
    known = n > 1
    critical = special.stdtrit(np.where(known, n - 1, 1), confidence)  # scipy.stats loads three times as long
    margin = critical * sd / np.sqrt(np.where(known, n, 1))
    return np.where(known, mean - margin, -np.inf), np.where(known, mean + margin, np.inf)
