"""Power before the run: exact for one rival, simulated for several, and the seeds it takes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics.power import (
    MOST_SEEDS,
    power_against_one,
    seeds_for_power,
    smallest_gap,
    step_power,
)
from sweep.statistics.rule import Rule

SD = 0.04 * math.sqrt(2)
RULE = Rule(tolerance=0.05, confidence=0.95, collapse_limit=1.0)
KEEP = Rule(keep=0.85, confidence=0.95, collapse_limit=1.0)


def power(rule: Rule = RULE, *, gain: float = 1.0, n_seeds: int, n_rivals: int) -> float:
    """Of ranks with a noise of .04."""
    return step_power(rule, gain=gain, noise_sd=0.04, n_seeds=n_seeds, n_rivals=n_rivals)


def test_power_against_one_rival_is_how_often_scipys_t_test_rejects() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.0, SD, size=(20_000, 10))
    p_values = stats.ttest_1samp(differences, -0.05, axis=1, alternative="greater").pvalue
    assert power_against_one(0.05, SD, 10, 0.95) == pytest.approx(np.mean(p_values < 0.05), abs=0.01)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10, 40, 1000])
@pytest.mark.parametrize("noncentrality", [-40.0, -11.0, -1.0, 0.0, 2.5, 8.0, 40.0, 59.0])
def test_power_against_one_rival_is_the_noncentral_ts(n_seeds: int, noncentrality: float) -> None:
    # Two of these are where SciPy's function of its own has no answer.
    exact = stats.nct.sf(stats.t.ppf(0.95, n_seeds - 1), n_seeds - 1, noncentrality)
    assert power_against_one(noncentrality / math.sqrt(n_seeds), 1.0, n_seeds, 0.95) == pytest.approx(exact, abs=1e-9)


def test_a_rank_exactly_at_the_tolerance_passes_as_often_as_the_error_allows() -> None:
    assert power_against_one(0.0, SD, 10, 0.95) == pytest.approx(0.05)


def test_five_seeds_pass_an_equal_rank_half_of_the_time() -> None:
    assert power(n_seeds=5, n_rivals=1) == pytest.approx(0.5, abs=0.02)
    assert power(n_seeds=10, n_rivals=1) == pytest.approx(0.82, abs=0.02)


@pytest.mark.parametrize("n_rivals", [2, 3, 5])
def test_several_rivals_lie_between_bonferroni_and_a_single_one(n_rivals: int) -> None:
    one = power(n_seeds=10, n_rivals=1)
    assert 1 - n_rivals * (1 - one) < power(n_seeds=10, n_rivals=n_rivals) < one


def test_the_simulated_power_repeats_itself() -> None:
    assert len({power(n_seeds=10, n_rivals=3) for _ in range(2)}) == 1


def test_one_equal_rival_under_keep_is_passed_as_often_as_the_noncentral_t_says() -> None:
    # The contrast of two equal gains g is (1 - keep) g, with the noise of one score and of a share of another.
    exact = power_against_one(0.15 * 0.35, 0.04 * math.hypot(1, 0.85), 10, 0.95)
    assert power(KEEP, gain=0.35, n_seeds=10, n_rivals=1) == pytest.approx(exact, abs=0.02)


def test_a_gain_that_noise_hides_lowers_the_power_under_either_rule() -> None:
    for rule in (RULE, KEEP):
        powers = [power(rule, gain=gain, n_seeds=10, n_rivals=1) for gain in (0.0, 0.03, 0.35)]
        assert powers == sorted(powers)
        assert powers[0] <= 0.06


def test_the_power_under_keep_has_no_units() -> None:
    powers = {
        step_power(KEEP, gain=a * 0.35, noise_sd=a * 0.04, base_sd=a * 0.02, n_seeds=10, n_rivals=3)
        for a in (0.01, 1.0, 100.0)
    }
    assert max(powers) - min(powers) < 1e-3


def test_degenerate_cases() -> None:
    assert power(n_seeds=1, n_rivals=3) == 0.0
    assert power(n_seeds=10, n_rivals=0) == 1.0
    assert power_against_one(0.05, 0.0, 2, 0.95) == 1.0
    assert power_against_one(-0.05, 0.0, 2, 0.95) == 0.0
    assert power_against_one(0.05, 1e-18, 10, 0.95) == 1.0
    assert smallest_gap(SD, 1, 1, 0.95) == math.inf
    assert smallest_gap(0.0, 10, 1, 0.95) == 0.0


@settings(deadline=None)
@given(st.floats(0.01, 0.2), st.integers(2, 30), st.integers(1, 6))
def test_the_smallest_gap_is_one_that_so_many_seeds_show(sd: float, n_seeds: int, n_rivals: int) -> None:
    gap = smallest_gap(sd, n_seeds, n_rivals, 0.95)
    assert power_against_one(gap, sd, n_seeds, 0.95) == pytest.approx(1 - 0.2 / n_rivals, abs=1e-3)


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
    assert power(n_seeds=n_seeds, n_rivals=3) > 0.8
    assert power(n_seeds=n_seeds - 3, n_rivals=3) < 0.8


def test_no_number_of_seeds_shows_what_is_not_there() -> None:
    assert seeds_for_power(0.0, SD, 1, 0.95) is None
    assert seeds_for_power(0.001, SD, 1, 0.95) is None
