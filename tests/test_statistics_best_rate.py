"""How the best learning rate moves with rank: recovered where points say it, refused where they do not."""

import itertools
import math

import numpy as np
import pytest

from sweep.statistics.best_rate import PROPORTIONAL, SAME, best_rates
from sweep.statistics.smoothing import SearchPoint

RANKS, RATES, ALPHAS = (1, 4, 16, 64), (5e-4, 1e-3, 2e-3, 4e-3, 8e-3), (16, 32, 64)


def points(*, by_r=0.0, by_alpha=0.0, sd=0.0, alphas=ALPHAS, rates=RATES, best=2e-3, bend=0.03, seed=0, level=0.6):
    """Trials whose best rate is `best` at r=8 and alpha=32, and moves with both."""
    rng = np.random.default_rng(seed)
    found = []
    for r, of_r, rate in itertools.product(RANKS, alphas, rates):
        alpha = of_r(r) if callable(of_r) else of_r
        off = math.log2(rate / best) - by_r * math.log2(r / 8) - by_alpha * math.log2(alpha / 32)
        score = level + 0.02 * math.log2(r) - bend * off**2 + sd * rng.standard_normal()
        found.append(SearchPoint(r=r, alpha=alpha, learning_rate=rate, score=score))
    return found


@pytest.mark.parametrize(("by_r", "by_alpha"), [(0.0, -1.0), (-0.25, -0.5), (0.1, 0.0)])
def test_without_noise_both_slopes_are_found_exactly(by_r, by_alpha):
    found = best_rates(points(by_r=by_r, by_alpha=by_alpha))
    assert not found.why_none
    assert found.fixed_alpha.slope == pytest.approx((by_r,) * 3, abs=1e-6)
    assert found.alpha_by_r.slope == pytest.approx((by_r + by_alpha,) * 3, abs=1e-6)
    assert dict(found.fixed_alpha.rates)[16].estimate == pytest.approx(2e-3 * 2**by_r, rel=1e-6)
    # At r=1, alpha proportional to r would be 4, which was not tried.
    assert [r for r, _ in found.alpha_by_r.rates] == [4, 16]


def test_intervals_hold_the_truth_as_often_as_they_say():
    held = [
        line.slope.lower <= truth <= line.slope.upper
        for seed in range(400)
        for found in [best_rates(points(by_r=-0.2, by_alpha=-0.5, sd=0.02, seed=seed))]
        for line, truth in ((found.fixed_alpha, -0.2), (found.alpha_by_r, -0.7))
        if line is not None
    ]
    assert len(held) > 780
    # 95 %, and three standard errors of 400 studies.
    assert 0.917 < sum(held) / len(held) < 0.983


def test_units_and_the_zero_of_the_reward_are_left_out():
    plain = points(by_r=-0.2, by_alpha=-0.5, sd=0.02)
    other = [
        SearchPoint(r=p.r, alpha=p.alpha, learning_rate=p.learning_rate, score=9 - 50 + 1e3 * p.score) for p in plain
    ]
    assert best_rates(other).fixed_alpha.slope == pytest.approx(best_rates(plain).fixed_alpha.slope)


def test_one_way_to_set_alpha_gives_one_slope():
    found = best_rates(points(by_r=-0.25, alphas=(32,)))
    assert (found.fixed_alpha.slope.estimate, found.alpha_by_r) == (pytest.approx(-0.25), None)
    assert found.why_none == SAME
    found = best_rates(points(by_r=-0.25, by_alpha=-0.25, alphas=(lambda r: 2 * r,), best=1.5e-3))
    assert (found.fixed_alpha, found.alpha_by_r.slope.estimate) == (None, pytest.approx(-0.5))
    assert [r for r, _ in found.alpha_by_r.rates] == list(RANKS)
    assert found.why_none == PROPORTIONAL


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"rates": RATES[:2]},
            "24 trials that did not collapse are too few, or too much alike, for a fit; ",
        ),
        ({"best": 0.05}, "at r=1 the fitted best rate lies outside of those that did not collapse, 0.0005 to 0.008"),
        ({"by_r": 1.0}, "at r=1 the fitted best rate lies outside of those that did not collapse"),
        ({"bend": 0.0, "sd": 0.02}, "how the score bends over learning rates cannot be told from noise"),
        ({"bend": -0.03}, "how the score bends"),
        ({"bend": 0.002, "sd": 0.1}, "how the score bends"),
    ],
)
def test_what_points_do_not_say_is_not_said(options, why):
    found = best_rates(points(**options))
    assert (found.fixed_alpha, found.alpha_by_r) == (None, None)
    assert found.why_none.startswith(why)


def test_collapsed_trials_are_left_out_and_too_few_are_refused():
    kept = points(by_r=-0.1, by_alpha=-0.5)
    lost = [SearchPoint(r=64, alpha=64, learning_rate=0.064, score=-9.0, collapsed=True)]
    assert best_rates(kept + lost) == best_rates(kept)
    assert best_rates(kept[:1] + kept[20:30:2] + lost).why_none.startswith("6 trials that did not collapse are too few")
    assert best_rates([]).why_none
