"""Seeds one by one: the error is spent as declared, and a rank that is too small is still rarely called good."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from sweep.statistics.collapse_looks import collapses_allowed, first_look, judge_collapses_twice
from sweep.statistics.decision import step_down, weigh
from sweep.statistics.paired import bound_contrasts, bound_contrasts_repeatedly
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import stand
from sweep.statistics.simulate import Setting, simulate
from sweep.statistics.spending import critical_values, error_spent
from sweep.statistics.truths import planted_truths

N_STUDIES = 2000
CAP = 14
KEEP = Rule(keep=0.85, confidence=0.95, collapse_limit=0.35, critical=critical_values(CAP, 0.95))
TOLERANCE = replace(KEEP, keep=None, tolerance=0.05)
ALLOWED = 0.05 + 2 * math.sqrt(0.05 * 0.95 / N_STUDIES)
TRUTHS = {truth.name: truth for truth in planted_truths(KEEP)}


def test_critical_values_are_those_that_simulation_found_before() -> None:
    known = [38.0, 8.61, 4.83, 3.55, 2.93, 2.54, 2.29, 2.11]
    assert critical_values(10, 0.95)[3:] == pytest.approx(known, rel=0.012)
    assert critical_values(10, 0.95)[:3] == (math.inf,) * 3


def test_published_boundaries_spend_what_is_said_to_be_spent() -> None:
    # Five equal looks, two-sided .05, O'Brien-Fleming spending (Jennison and Turnbull, 2000, table 7.1 and its kind).
    published = [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]
    shares = np.arange(1, 6) / 5
    for looks in range(1, 5):
        t = shares[:looks]
        correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
        within = stats.multivariate_normal(cov=correlation).cdf(np.array(published[:looks]))
        assert 1 - within == pytest.approx(error_spent(float(t[-1]), 0.025), rel=0.02, abs=2e-6)


@pytest.mark.parametrize("cap", [2, 3])
def test_a_cap_that_leaves_one_look_spends_all_of_it_there(cap: int) -> None:
    assert critical_values(cap, 0.9)[-1] == pytest.approx(special.stdtrit(cap - 1, 0.9), rel=1e-6)


def test_a_cap_below_two_seeds_is_refused() -> None:
    with pytest.raises(ValueError, match="a cap of 1 seeds leaves nothing to pair"):
        critical_values(1, 0.95)


def test_bounds_are_the_tightest_of_all_looks_and_never_loosen() -> None:
    rng = np.random.default_rng(1)
    scores, usable = rng.normal(size=(50, 3, CAP)), np.ones((50, 3, CAP), dtype=bool)
    before = bound_contrasts_repeatedly(scores[..., :4], usable[..., :4], 0.85, KEEP.critical)
    for k in range(5, CAP + 1):
        now = bound_contrasts_repeatedly(scores[..., :k], usable[..., :k], 0.85, KEEP.critical)
        assert (now.lower >= before.lower).all()
        assert (now.upper <= before.upper).all()
        before = now
    last = bound_contrasts(scores, usable, 0.85, special.stdtr(CAP - 1, KEEP.critical[-1]))
    assert (before.lower >= last.lower - 1e-12).all(), "the last look is among them"


def test_a_few_seeds_that_agree_to_the_last_digit_show_nothing_before_the_last_look() -> None:
    scores = np.zeros((2, CAP))
    scores[0] = 1 / 64
    usable = np.ones(scores.shape, dtype=bool)
    early = bound_contrasts_repeatedly(scores[:, :5], usable[:, :5], 1.0, KEEP.critical)
    assert early.lower[0, 1] == -math.inf
    assert bound_contrasts_repeatedly(scores, usable, 1.0, KEEP.critical).lower[0, 1] == pytest.approx(1 / 64)


@pytest.mark.parametrize("rule", [KEEP, TOLERANCE], ids=["keep", "tolerance"])
@pytest.mark.parametrize("position", range(len(TRUTHS)), ids=list(TRUTHS))
def test_a_wrong_rank_is_declared_in_at_most_one_study_of_twenty(position: int, rule: Rule) -> None:
    rates = simulate(planted_truths(rule)[position], Setting(rule=rule, seeds=(CAP,)), N_STUDIES)
    assert rates.declared_wrongly <= ALLOWED
    assert rates.dismissed_wrongly <= ALLOWED


@pytest.mark.parametrize("spreads", [(3.0, 1.0, 1.0, 1.0), (1.0, 1.0, 1.0, 3.0), (0.2, 1.0, 2.0, 0.5)], ids=str)
@pytest.mark.parametrize("truth", ["boundary, largest is best", "boundary, one step down", "boundary, peaked"])
def test_that_holds_where_ranks_differ_in_noise(truth: str, spreads: tuple[float, ...]) -> None:
    rates = simulate(TRUTHS[truth], Setting(rule=KEEP, seeds=(CAP,), spreads=spreads), N_STUDIES)
    assert rates.declared_wrongly <= ALLOWED


def test_it_takes_fewer_trials_than_ten_seeds_for_all() -> None:
    for name in ("flat", "rising", "as tiny", "as tiny_1_symbol", "nothing learned"):
        assert simulate(TRUTHS[name], Setting(rule=KEEP, seeds=(CAP,)), 500).trials < 40


@pytest.mark.parametrize("limit", [0.2, 0.35, 0.5])
@pytest.mark.parametrize("cap", [5, 10, 14, 20])
def test_two_looks_at_collapse_err_as_often_as_declared_at_most(cap: int, limit: float) -> None:
    first = first_look(cap, limit, 0.95)
    allowed = collapses_allowed(cap, first, limit, 0.95)
    wrong = 0.0
    for early, late in itertools.product(range(first + 1), range(cap - first + 1)):
        if early == 0 < first < cap or early + late <= allowed:
            wrong += stats.binom.pmf(early, first, limit) * stats.binom.pmf(late, cap - first, limit)
    assert wrong <= 0.05 + 1e-12


def test_a_rank_with_one_collapse_waits_for_the_last_look() -> None:
    collapsed = np.zeros((2, CAP), dtype=bool)
    collapsed[1, 2] = True
    ran = np.ones_like(collapsed)
    first = first_look(CAP, 0.35, 0.95)
    early, _ = judge_collapses_twice(collapsed[:, :first], ran[:, :first], 0.35, 0.95, cap=CAP)
    late, _ = judge_collapses_twice(collapsed, ran, 0.35, 0.95, cap=CAP)
    assert (early.tolist(), late.tolist()) == ([True, False], [True, True])


def test_a_rank_that_always_collapses_leaves_at_the_first_look() -> None:
    first = first_look(CAP, 0.35, 0.95)
    collapsed = np.ones((1, first), dtype=bool)
    within, above = judge_collapses_twice(collapsed, collapsed, 0.35, 0.95, cap=CAP)
    assert (within.tolist(), above.tolist()) == ([False], [True])


def test_whoever_is_shown_too_low_goes_on_only_where_others_need_it() -> None:
    rng = np.random.default_rng(0)
    gains = np.array([0.05, 0.30, 0.34])[:, None] + rng.normal(0, 0.01, (3, 6))
    evidence = weigh(gains, np.zeros((3, 6), dtype=bool), KEEP)
    standing = stand(evidence, step_down(evidence, [0.3, 0.5, 0.6], KEEP), KEEP)
    assert not standing.settled
    assert standing.needed.tolist() == [False, True, True]


def test_looks_and_a_cap_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="every seed is a look"):
        replace(KEEP, looks=2)
