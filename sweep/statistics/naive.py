"""Common ways to choose a rank that do not account for noise, to be compared with the verdict's rule.

Each takes scores of shape (n_studies, n_ranks, n_seeds), where a collapsed trial has the score it got (the
floor), and returns the position of the declared rank, shape (n_studies,).
"""

from __future__ import annotations

import numpy as np

from sweep.statistics.decision import Rule
from sweep.statistics.paired import BoolArray, FloatArray, IntArray, bound_differences


def best_trial(scores: FloatArray, rule: Rule) -> IntArray:
    """The rank of the single best trial: what `study.best_trial` names."""
    del rule  # It knows neither a tolerance nor a confidence.
    return _first_largest(scores.max(axis=-1))


def smallest_by_maximum(scores: FloatArray, rule: Rule) -> IntArray:
    """The smallest rank whose best trial comes within the tolerance of the best trial of all."""
    return _smallest_near_best(scores.max(axis=-1), rule.tolerance)


def smallest_by_mean(scores: FloatArray, rule: Rule) -> IntArray:
    """The smallest rank whose mean comes within the tolerance of the best mean: the point estimate."""
    return _smallest_near_best(scores.mean(axis=-1), rule.tolerance)


def smallest_against_largest(scores: FloatArray, rule: Rule) -> IntArray:
    """Step down from the largest rank while the paired t lower bound against it alone exceeds -tolerance."""
    bounds = bound_differences(scores, np.ones(scores.shape, dtype=np.bool_), rule.bound_confidence)
    passes: BoolArray = bounds.lower[..., -1] > -rule.tolerance
    unstopped = np.logical_and.accumulate(passes[..., ::-1], axis=-1)[..., ::-1]
    return _first_largest(unstopped)


def _smallest_near_best(estimates: FloatArray, tolerance: float) -> IntArray:
    return _first_largest(estimates >= estimates.max(axis=-1, keepdims=True) - tolerance)


def _first_largest(values: FloatArray | BoolArray) -> IntArray:
    """Position of the first maximum along the last axis; of the first True, for bool."""
    return np.asarray(values.argmax(axis=-1), dtype=np.int64)
