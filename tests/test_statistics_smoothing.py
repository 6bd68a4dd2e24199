"""What goes to confirmation: shrunken estimates, stable configurations, and only tuned ranks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sweep.statistics.smoothing import SearchPoint, freeze_configurations, smooth_scores

LADDER = (1, 4, 16, 64)
ALPHAS = (16, 32, 64)
LEARNING_RATES = (5e-4, 1e-3, 2e-3, 4e-3)
TOPS = {1: 0.44, 4: 0.54, 16: 0.60, 64: 0.59}


def true_score(r: int, alpha: float, learning_rate: float) -> float:
    """A ridge along alpha * learning_rate = .064, as the tiny policy has it."""
    return TOPS[r] - 0.05 * math.log2(alpha * learning_rate / 0.064) ** 2


def grid_search(seed: int, noise_sd: float = 0.04, repeats: int = 1) -> list[SearchPoint]:
    rng = np.random.default_rng(seed)
    return [
        SearchPoint(r=r, alpha=a, learning_rate=lr, score=true_score(r, a, lr) + rng.normal(0, noise_sd))
        for r in LADDER
        for a in ALPHAS
        for lr in LEARNING_RATES
        for _ in range(repeats)
    ]


def test_every_tuned_rank_gets_one_configuration_that_was_tried() -> None:
    points = grid_search(seed=0)
    search = freeze_configurations(points, LADDER, points_per_rank=12)
    assert [configuration.r for configuration in search.frozen] == list(LADDER)
    assert not search.untuned
    tried = {(point.r, point.alpha, point.learning_rate) for point in points}
    assert {(c.r, c.alpha, c.learning_rate) for c in search.frozen} <= tried


def test_smoothing_overstates_less_than_the_maximum() -> None:
    overstated_raw, overstated_smoothed, lost_raw, lost_smoothed = [], [], [], []
    for seed in range(10):
        points = grid_search(seed)
        for frozen in freeze_configurations(points, LADDER, points_per_rank=12).frozen:
            best = max((point for point in points if point.r == frozen.r), key=lambda point: point.score)
            truth = true_score(frozen.r, frozen.alpha, frozen.learning_rate)
            truth_of_best = true_score(best.r, best.alpha, best.learning_rate)
            overstated_smoothed.append(frozen.smoothed - truth)
            overstated_raw.append(best.score - truth_of_best)
            lost_smoothed.append(TOPS[frozen.r] - truth)
            lost_raw.append(TOPS[best.r] - truth_of_best)
    assert np.mean(overstated_raw) > 0.03
    assert abs(np.mean(overstated_smoothed)) < np.mean(overstated_raw) / 3
    assert np.mean(lost_smoothed) <= np.mean(lost_raw)


def test_a_lucky_trial_among_mediocre_neighbours_is_shrunk() -> None:
    points = grid_search(seed=1)
    lucky = next(i for i, p in enumerate(points) if (p.r, p.alpha, p.learning_rate) == (16, 64, 4e-3))
    points[lucky] = replace(points[lucky], score=points[lucky].score + 0.25)
    smoothed, _ = smooth_scores(points)
    assert smoothed[lucky] < points[lucky].score - 0.1


def test_the_noise_is_recovered() -> None:
    _, noise_sd = smooth_scores(grid_search(seed=2, repeats=2))
    assert noise_sd == pytest.approx(0.04, rel=0.25)


def test_a_configuration_that_collapsed_once_is_not_frozen() -> None:
    points = grid_search(seed=3, repeats=2)
    best = freeze_configurations(points, LADDER, 12).frozen[2]
    first = next(
        i for i, p in enumerate(points) if (p.r, p.alpha, p.learning_rate) == (16, best.alpha, best.learning_rate)
    )
    points[first] = replace(points[first], score=math.nan, collapsed=True)
    again = freeze_configurations(points, LADDER, 12).frozen[2]
    assert (again.alpha, again.learning_rate) != (best.alpha, best.learning_rate)


def edge_search(rng: np.random.Generator) -> list[SearchPoint]:
    """Eight random points per rank; the best update size, .11, lies just below where training collapses."""
    points = []
    for r in LADDER:
        for _ in range(8):
            alpha, learning_rate = (
                int(rng.choice([8, 16, 32, 64, 128])),
                float(rng.choice([*LEARNING_RATES, 8e-3])),
            )
            size = alpha * learning_rate
            risk = 0.85 if size > 0.19 else 0.25 if size > 0.12 else 0.01
            score = TOPS[r] - 0.05 * min(2.5, abs(math.log2(size / 0.11))) ** 2 + rng.normal(0, 0.04)
            collapsed = bool(rng.random() < risk)
            points.append(SearchPoint(r=r, alpha=alpha, learning_rate=learning_rate, score=score, collapsed=collapsed))
    return points


def test_collapsed_trials_steer_the_choice_away_from_the_edge() -> None:
    rng = np.random.default_rng(0)
    heeding, ignoring = 0, 0
    for _ in range(30):
        points = edge_search(rng)
        frozen = freeze_configurations(points, LADDER, points_per_rank=1).frozen
        heeding += sum(c.alpha * c.learning_rate > 0.12 for c in frozen)
        collapsed = {(p.r, p.alpha, p.learning_rate) for p in points if p.collapsed}
        stable = [p for p in points if (p.r, p.alpha, p.learning_rate) not in collapsed]
        frozen = freeze_configurations(stable, LADDER, points_per_rank=1).frozen
        ignoring += sum(c.alpha * c.learning_rate > 0.12 for c in frozen)
    assert heeding < 0.7 * ignoring


def test_the_distance_to_the_floor_does_not_drown_small_differences() -> None:
    # Everything that holds scores above .8 and differs by hundredths; what collapses scores nothing.
    points = [
        replace(p, score=0.9 + p.score / 10, collapsed=p.alpha * p.learning_rate > 0.2) for p in grid_search(seed=4)
    ]
    smoothed, noise_sd = smooth_scores([replace(p, score=0.0) if p.collapsed else p for p in points])
    kept = [i for i, p in enumerate(points) if not p.collapsed]
    truth = [0.9 + true_score(p.r, p.alpha, p.learning_rate) / 10 for p in points]
    assert max(abs(smoothed[i] - truth[i]) for i in kept) < 0.015
    assert noise_sd < 0.01


def test_ranks_with_too_few_points_are_listed_and_not_frozen() -> None:
    points = [p for p in grid_search(seed=5) if p.r != 64 and not (p.r == 4 and p.alpha > 16)]
    search = freeze_configurations(points, LADDER, points_per_rank=12)
    assert [configuration.r for configuration in search.frozen] == [1, 16]
    assert [(rank.r, rank.n_points, rank.reason) for rank in search.untuned] == [
        (4, 4, "not tuned: 4 of 12 search points"),
        (64, 0, "not tuned: 0 of 12 search points"),
    ]


def test_repetitions_do_not_count_as_points() -> None:
    once = grid_search(seed=6)
    search = freeze_configurations([p for p in once if p.alpha == 16] * 3, LADDER, points_per_rank=12)
    assert not search.frozen
    assert {rank.n_points for rank in search.untuned} == {4}


def test_a_rank_that_always_collapsed_is_not_frozen() -> None:
    points = [replace(p, collapsed=True) if p.r == 64 else p for p in grid_search(seed=7)]
    search = freeze_configurations(points, LADDER, points_per_rank=12)
    assert [rank.reason for rank in search.untuned] == ["not tuned: every one of its 12 search points collapsed"]


def test_a_search_in_which_everything_collapsed_freezes_nothing() -> None:
    points = [replace(p, collapsed=True) for p in grid_search(seed=8)]
    search = freeze_configurations(points, LADDER, points_per_rank=12)
    assert not search.frozen
    assert math.isnan(search.noise_sd)


def test_an_empty_search_freezes_nothing() -> None:
    assert [rank.n_points for rank in freeze_configurations([], (1, 4), points_per_rank=3).untuned] == [0, 0]


def test_one_alpha_and_one_learning_rate_are_enough() -> None:
    points = [SearchPoint(r=r, alpha=32, learning_rate=2e-3, score=TOPS[r]) for r in LADDER]
    search = freeze_configurations(points, LADDER, points_per_rank=1)
    assert [configuration.alpha for configuration in search.frozen] == [32] * 4
    assert max(search.frozen, key=lambda configuration: configuration.smoothed).r in {16, 64}


def test_equal_scores_freeze_the_gentler_update() -> None:
    points = [replace(p, score=0.5) for p in grid_search(seed=9)]
    frozen = freeze_configurations(points, LADDER, points_per_rank=12).frozen
    assert {(c.alpha, c.learning_rate, c.smoothed) for c in frozen} == {(16, 5e-4, 0.5)}


def test_a_search_of_many_trials_is_smoothed_in_seconds() -> None:
    points = grid_search(seed=10, repeats=12)
    assert len(points) > 500
    smoothed, _ = smooth_scores(points)
    truth = [true_score(p.r, p.alpha, p.learning_rate) for p in points]
    assert np.sqrt(np.mean((smoothed - truth) ** 2)) < 0.02


@pytest.mark.parametrize("wrong", [{"score": math.nan}, {"alpha": 0}, {"learning_rate": -1e-3}])
def test_points_that_cannot_be_smoothed_are_refused(wrong: dict[str, Any]) -> None:
    point = SearchPoint(r=4, alpha=32, learning_rate=2e-3, score=0.5)
    with pytest.raises(ValueError, match=r"must be positive|finite score"):
        smooth_scores([replace(point, **wrong)])
