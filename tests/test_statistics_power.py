"""Power before the run: exact for one rival, simulated for several, and the seeds it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics.power import MOST_SEEDS, pooled_sd, power_against_one, seeds_for_power, step_power

SD = 0.04 * math.sqrt(2)


def test_power_against_one_rival_is_how_often_scipys_t_test_rejects() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.0, SD, size=(20_000, 10))
    p_values = stats.ttest_1samp(differences, -0.05, axis=1, alternative="greater").pvalue
    assert power_against_one(0.05, SD, 10, 0.95) == pytest.approx(np.mean(p_values < 0.05), abs=0.01)


def test_a_rank_exactly_at_the_tolerance_passes_as_often_as_the_error_allows() -> None:
    assert power_against_one(0.0, SD, 10, 0.95) == pytest.approx(0.05)


def test_five_seeds_pass_an_equal_rank_half_of_the_time() -> None:
    assert step_power(0.05, SD, 5, n_rivals=1, confidence=0.95) == pytest.approx(0.5, abs=0.01)
    assert step_power(0.05, SD, 10, n_rivals=1, confidence=0.95) == pytest.approx(0.82, abs=0.01)


@pytest.mark.parametrize("n_rivals", [2, 3, 5])
def test_several_rivals_lie_between_bonferroni_and_a_single_one(n_rivals: int) -> None:
    one = step_power(0.05, SD, 10, n_rivals=1, confidence=0.95)
    several = step_power(0.05, SD, 10, n_rivals=n_rivals, confidence=0.95)
    assert 1 - n_rivals * (1 - one) < several < one


def test_the_simulated_power_repeats_itself() -> None:
    powers = {step_power(0.05, SD, 10, n_rivals=3, confidence=0.95) for _ in range(2)}
    assert len(powers) == 1


def test_degenerate_cases() -> None:
    assert step_power(0.05, SD, 1, n_rivals=3, confidence=0.95) == 0.0
    assert step_power(0.05, SD, 10, n_rivals=0, confidence=0.95) == 1.0
    assert power_against_one(0.05, 0.0, 2, 0.95) == 1.0
    assert power_against_one(-0.05, 0.0, 2, 0.95) == 0.0
    assert power_against_one(0.05, 1e-18, 10, 0.95) == 1.0


@settings(deadline=None)
@given(st.floats(0.005, 0.2), st.floats(0.01, 0.2), st.integers(1, 6))
def test_seeds_for_power_are_the_fewest_that_reach_it(gap: float, sd: float, n_rivals: int) -> None:
    n_seeds = seeds_for_power(gap, sd, n_rivals, 0.95)
    each = 1 - 0.2 / n_rivals
    if n_seeds is None:
        assert power_against_one(gap, sd, MOST_SEEDS, 0.95) < each
        return
    assert power_against_one(gap, sd, n_seeds, 0.95) >= each
    assert n_seeds == 2 or power_against_one(gap, sd, n_seeds - 1, 0.95) < each


def test_seeds_for_several_rivals_reach_the_power_and_little_more() -> None:
    n_seeds = seeds_for_power(0.05, SD, n_rivals=3, confidence=0.95)
    assert n_seeds == 15
    assert step_power(0.05, SD, n_seeds, n_rivals=3, confidence=0.95) > 0.8
    assert step_power(0.05, SD, n_seeds - 3, n_rivals=3, confidence=0.95) < 0.8


def test_no_number_of_seeds_shows_what_is_not_there() -> None:
    assert seeds_for_power(0.0, SD, 1, 0.95) is None
    assert seeds_for_power(0.001, SD, 1, 0.95) is None


def test_pooled_sd_weighs_groups_by_their_degrees_of_freedom() -> None:
    # Sums of squares 2 and 8 over 2 + 1 degrees of freedom; a single trial says nothing.
    assert pooled_sd([[1.0, 2.0, 3.0], [0.0, 4.0], [9.0]]) == pytest.approx(math.sqrt(10 / 3))
    assert math.isnan(pooled_sd([[1.0], []]))
