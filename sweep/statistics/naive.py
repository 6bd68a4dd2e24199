"""Common ways to choose a rank that do not account for noise, to be compared with the verdict's rule.

Each takes gains over the base policy of shape (n_studies, n_ranks, n_seeds), where a collapsed trial has the gain it
got (the loss of everything), and returns the position of the declared rank, shape (n_studies,).
"""

from __future__ import annotations

import numpy as np

from sweep.statistics.paired import BoolArray, FloatArray, IntArray, bound_contrasts
from sweep.statistics.rule import Rule


def best_trial(gains: FloatArray, rule: Rule) -> IntArray:
    """The rank of the single best trial: what `study.best_trial` names."""
    del rule  # It knows neither what counts as good nor a confidence.
    return _first_largest(gains.max(axis=-1))


def smallest_by_maximum(gains: FloatArray, rule: Rule) -> IntArray:
    """The smallest rank whose best trial is as good as the best trial of all."""
    return _smallest_near_best(gains.max(axis=-1), rule)


def smallest_by_mean(gains: FloatArray, rule: Rule) -> IntArray:
    """The smallest rank whose mean is as good as the best mean: the point estimate."""
    return _smallest_near_best(gains.mean(axis=-1), rule)


def smallest_against_largest(gains: FloatArray, rule: Rule) -> IntArray:
    """Step down from the largest rank while the paired t lower bound against it alone clears what the rule asks."""
    bounds = bound_contrasts(gains, np.ones(gains.shape, dtype=np.bool_), rule.share, rule.bound_confidence)
    passes: BoolArray = bounds.lower[..., -1] > -rule.margin
    passes[..., -1] = True
    unstopped = np.logical_and.accumulate(passes[..., ::-1], axis=-1)[..., ::-1]
    return _first_largest(unstopped)


def _smallest_near_best(estimates: FloatArray, rule: Rule) -> IntArray:
    return _first_largest(estimates >= rule.share * estimates.max(axis=-1, keepdims=True) - rule.margin)


def _first_largest(values: FloatArray | BoolArray) -> IntArray:
    """Position of the first maximum along the last axis; of the first True, for bool."""
    return np.asarray(values.argmax(axis=-1), dtype=np.int64)
