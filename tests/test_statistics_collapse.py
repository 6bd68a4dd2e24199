"""Collapse as an endpoint: exact bounds, three answers, and limits that the seeds can reach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sweep.statistics.collapse import (
    CollapseStatus,
    collapse_bounds,
    fewest_seeds,
    judge_collapse,
    judge_collapses,
    seeds_to_settle_collapse,
)

counts = st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
limits = st.floats(0.05, 0.95)


def test_no_collapse_in_ten_seeds_bounds_the_rate_at_a_quarter() -> None:
    assert collapse_bounds(0, 10, 0.95) == pytest.approx((0.0, 1 - 0.05**0.1))
    assert collapse_bounds(0, 10, 0.95)[1] == pytest.approx(0.2589, abs=1e-4)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    # The exact bounds are quantiles of the beta distribution.
    lower, upper = collapse_bounds(3, 10, 0.95)
    assert lower == pytest.approx(stats.beta.ppf(0.05, 3, 8))
    assert upper == pytest.approx(stats.beta.ppf(0.95, 4, 7))


def test_without_seeds_nothing_is_known() -> None:
    assert collapse_bounds(0, 0, 0.95) == (0.0, 1.0)
    assert judge_collapse(0, 0, 0.3, 0.95) is CollapseStatus.OPEN


def test_a_limit_of_one_switches_the_endpoint_off() -> None:
    assert judge_collapse(10, 10, 1.0, 0.95) is CollapseStatus.WITHIN
    assert judge_collapse(0, 0, 1.0, 0.95) is CollapseStatus.WITHIN
    assert fewest_seeds(1.0, 0.95) == 0


def test_ten_clean_seeds_meet_a_limit_of_three_tenths_and_one_collapse_leaves_it_open() -> None:
    statuses = [judge_collapse(k, 10, 0.3, 0.95) for k in (0, 1, 5, 6)]
    within, still_open, above = CollapseStatus.WITHIN, CollapseStatus.OPEN, CollapseStatus.ABOVE
    assert statuses == [within, still_open, still_open, above]


def test_a_limit_of_three_tenths_survives_one_lost_trial_of_ten() -> None:
    assert fewest_seeds(0.3, 0.95) == 9


@settings(deadline=None, max_examples=40)
@given(limits, st.floats(0.6, 0.99))
def test_fewest_seeds_is_where_the_rule_begins_to_be_met(limit: float, confidence: float) -> None:
    n = fewest_seeds(limit, confidence)
    assert judge_collapse(0, n, limit, confidence) is CollapseStatus.WITHIN
    assert n == 1 or judge_collapse(0, n - 1, limit, confidence) is not CollapseStatus.WITHIN


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), limits, st.sampled_from([0.8, 0.95]))
def test_a_rate_at_the_limit_is_misjudged_no_more_often_than_declared(n: int, limit: float, confidence: float) -> None:
    statuses = [judge_collapse(k, n, limit, confidence) for k in range(n + 1)]
    probability = stats.binom.pmf(np.arange(n + 1), n, limit)
    for wrong in (CollapseStatus.WITHIN, CollapseStatus.ABOVE):
        assert probability[[status is wrong for status in statuses]].sum() <= 1 - confidence + 1e-9


@settings(deadline=None, max_examples=40)
@given(counts, limits)
def test_arrays_are_judged_like_single_counts(count: tuple[int, int], limit: float) -> None:
    k, n = count
    within, above = judge_collapses(np.array([[k, 0]]), np.array([[n, n]]), limit, 0.95)
    expected = [judge_collapse(k, n, limit, 0.95), judge_collapse(0, n, limit, 0.95)]
    assert within.tolist() == [[status is CollapseStatus.WITHIN for status in expected]]
    assert above.tolist() == [[status is CollapseStatus.ABOVE for status in expected]]


def test_one_collapse_in_ten_is_settled_by_four_clean_seeds() -> None:
    assert seeds_to_settle_collapse(1, 10, 0.3, 0.95, most_seeds=1000) == 14
    assert judge_collapse(1, 14, 0.3, 0.95) is CollapseStatus.WITHIN


@settings(deadline=None, max_examples=40)
@given(counts, st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_the_seeds_that_settle_it_are_the_first_at_which_the_rule_does(count: tuple[int, int], limit: float) -> None:
    k, n = count
    planned = seeds_to_settle_collapse(k, n, limit, 0.95, most_seeds=60)
    totals = [(max(k, m * k // max(n, 1)), m) for m in range(n, 61)]
    settled = [m for j, m in totals if judge_collapse(j, m, limit, 0.95) is not CollapseStatus.OPEN]
    assert planned == (settled[0] if settled else None)


def test_a_rate_seen_above_the_limit_is_settled_the_other_way() -> None:
    n = seeds_to_settle_collapse(4, 10, 0.2, 0.95, most_seeds=1000)
    assert n is not None
    assert judge_collapse(int(0.4 * n), n, 0.2, 0.95) is CollapseStatus.ABOVE


def test_a_rate_seen_at_the_limit_is_not_settled_by_any_affordable_number_of_seeds() -> None:
    assert seeds_to_settle_collapse(3, 10, 0.3, 0.95, most_seeds=200) is None
