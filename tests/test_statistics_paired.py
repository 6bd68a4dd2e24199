"""Paired t bounds: the same numbers as scipy, and what happens with too few seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from sweep.statistics.paired import bound_differences, mean_interval

score = st.floats(0, 1).map(lambda value: round(value, 3))
scores_of_ranks = hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(0, 8)), elements=score)
SMALL = [0.51, 0.55, 0.48, 0.60, 0.57]
LARGE = [0.58, 0.56, 0.55, 0.59, 0.61]


def paired_lower_bound(scores: Sequence[float], rival_scores: Sequence[float], confidence: float) -> float:
    """One pair's bound out of all of them."""
    both = np.array([scores, rival_scores])
    return float(bound_differences(both, np.ones(both.shape, dtype=np.bool_), confidence).lower[0, 1])


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_lower_bound_is_that_of_scipys_paired_t_test(confidence: float) -> None:
    test = stats.ttest_rel(SMALL, LARGE, alternative="greater")
    assert paired_lower_bound(SMALL, LARGE, confidence) == pytest.approx(test.confidence_interval(confidence).low)


def test_lower_bound_agrees_with_a_calculation_by_hand() -> None:
    # Differences -2, 0, 2 hundredths: mean 0, sd .02; t(.95; 2) = 2.919986.
    bound = paired_lower_bound([0.50, 0.50, 0.52], [0.52, 0.50, 0.50], 0.95)
    assert bound == pytest.approx(-2.919986 * 0.02 / math.sqrt(3), abs=1e-8)


def test_pairing_removes_what_the_ranks_share_on_a_seed() -> None:
    shared = np.array([0.0, 0.3, -0.2, 0.1, -0.1])
    alone = paired_lower_bound(SMALL, LARGE, 0.95)
    assert paired_lower_bound(list(SMALL + shared), list(LARGE + shared), 0.95) == pytest.approx(alone)


@pytest.mark.parametrize("n_seeds", [0, 1])
def test_fewer_than_two_seeds_bound_nothing(n_seeds: int) -> None:
    assert paired_lower_bound(SMALL[:n_seeds], LARGE[:n_seeds], 0.95) == -math.inf
    assert mean_interval(SMALL[:n_seeds], 0.95) == (-math.inf, math.inf)


def test_equal_differences_are_bounded_by_themselves() -> None:
    assert paired_lower_bound([0.5, 0.75, 1.0], [0.25, 0.5, 0.75], 0.95) == 0.25
    assert mean_interval([0.5, 0.5, 0.5], 0.95) == (0.5, 0.5)


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_mean_interval_is_scipys_t_interval(confidence: float) -> None:
    expected = stats.t.interval(confidence, 4, np.mean(SMALL), stats.sem(SMALL))
    assert mean_interval(SMALL, confidence) == pytest.approx(expected)


def test_seeds_unusable_for_either_rank_are_left_out_of_the_pair() -> None:
    scores = np.array([[*SMALL, math.nan, 0.9], [*LARGE, 0.4, 0.0]])
    usable = np.array([[True] * 5 + [False, True], [True] * 6 + [False]])
    bounds = bound_differences(scores, usable, 0.95)
    assert bounds.n_seeds.tolist() == [[6, 5], [5, 6]]
    assert bounds.lower[0, 1] == pytest.approx(paired_lower_bound(SMALL, LARGE, 0.95))


@settings(deadline=None)
@given(scores_of_ranks, st.floats(0.55, 0.99))
def test_bounds_are_antisymmetric_and_hold_the_mean(scores: np.ndarray, confidence: float) -> None:
    bounds = bound_differences(scores, np.ones(scores.shape, dtype=bool), confidence)
    np.testing.assert_allclose(bounds.lower, -np.swapaxes(bounds.upper, -1, -2))
    if scores.shape[1]:
        assert (bounds.lower <= bounds.mean).all()
        assert (bounds.mean <= bounds.upper).all()


@settings(deadline=None)
@given(scores_of_ranks, st.data())
def test_leading_axes_are_independent_studies(scores: np.ndarray, data: st.DataObject) -> None:
    usable = data.draw(hnp.arrays(np.bool_, scores.shape))
    alone = bound_differences(scores, usable, 0.95)
    both = bound_differences(np.stack([scores, scores[::-1]]), np.stack([usable, usable[::-1]]), 0.95)
    np.testing.assert_array_equal(both.lower[0], alone.lower)
    np.testing.assert_array_equal(both.upper[1], alone.upper[::-1, ::-1])
