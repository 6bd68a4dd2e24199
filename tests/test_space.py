from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.study.space import SearchSpace, default_ladder


def space(**changes):
    ladders = {"r": (1, 4, 16, 64), "alpha": (16, 32, 64), "learning_rate": (1e-3, 2e-3, 4e-3)}
    return SearchSpace(**{"max_lora_rank": 64, **ladders, **changes})


def test_space_rejects_rank_above_ceiling():
    with pytest.raises(ValueError, match=r"r=96 exceeds max_lora_rank=64; allowed: 1 to 64"):
        space(r=(8, 96))


def test_space_rejects_alpha_above_ceiling_unless_the_study_lifts_it():
    with pytest.raises(ValueError, match="alpha=128 exceeds max_lora_rank=64"):
        space(alpha=(16, 128))
    assert space(alpha=(16, 128), alpha_above_ceiling=True).alpha == (16, 128)


@pytest.mark.parametrize("ladder", [(), (4, 4), (8, 4), (0, 1), (-1, 4)])
def test_space_rejects_ladders_that_are_empty_unordered_or_not_positive(ladder):
    with pytest.raises(ValueError, match=r"space\.r"):
        space(r=ladder)


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0, -1e-3])
def test_space_rejects_learning_rates_that_are_not_finite_and_positive(rate):
    with pytest.raises(ValueError, match=r"space\.learning_rate"):
        space(learning_rate=(rate,))


def test_design_gives_every_rank_the_same_points():
    points = space().design(3, seed=0)
    by_rank = defaultdict(list)
    for point in points:
        by_rank[point["r"]].append((point["alpha"], point["learning_rate"]))
    assert set(by_rank) == {1, 4, 16, 64}
    assert len(set(map(tuple, by_rank.values()))) == 1


def test_design_uses_every_rung_once_where_points_equal_rungs():
    points = [point for point in space().design(3, seed=0) if point["r"] == 1]
    assert Counter(point["alpha"] for point in points) == dict.fromkeys((16, 32, 64), 1)
    assert Counter(point["learning_rate"] for point in points) == dict.fromkeys((1e-3, 2e-3, 4e-3), 1)


def test_design_gives_all_ranks_their_first_point_before_any_its_second():
    assert [point["r"] for point in space().design(2, seed=0)] == [1, 4, 16, 64] * 2


@given(points=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_design_never_repeats_a_point_nor_leaves_the_ladders(points, seed):
    design = space().design(points, seed=seed)
    assert len({tuple(sorted(point.items())) for point in design}) == len(design) == 4 * points
    assert all(point["r"] <= 64 and point["alpha"] <= 64 for point in design)
    assert design == space().design(points, seed=seed)


@given(st.integers(1, 512))
def test_default_ladders_end_at_the_ceiling_and_stay_in_order(ceiling):
    ladder = default_ladder(ceiling, rungs=4)
    assert ladder[-1] == ceiling
    assert list(ladder) == sorted(set(ladder))
