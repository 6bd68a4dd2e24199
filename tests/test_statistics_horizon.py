"""The verdict at parts of the budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sweep.statistics.confirmation import Confirmation
from sweep.statistics.horizon import judge_horizon
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import FrozenConfiguration

RULE = Rule(tolerance=0.05, confidence=0.95, collapse_limit=0.3)


def confirm(means: Sequence[float], noise_sd: float = 0.02, base: float = 0.2) -> Confirmation:
    frozen = tuple(
        FrozenConfiguration(r=r, alpha=32, learning_rate=2e-3, smoothed=s, search_mean=s, n_search_trials=1)
        for r, s in zip((1, 4, 16), (0.4, 0.5, 0.6), strict=True)
    )
    noise = np.random.default_rng(0).normal(0, noise_sd, (3, 10))
    scores = np.array(means)[:, None] + noise - noise.mean(axis=1, keepdims=True)
    return Confirmation(
        frozen=frozen, scores=scores, collapsed=np.zeros(scores.shape, dtype=bool), base=np.full(10, base)
    )


def test_an_answer_that_stays_raises_no_warning() -> None:
    horizon = judge_horizon({share: confirm([0.4, 0.6, 0.6]) for share in (0.25, 0.5, 1.0)}, RULE)
    assert horizon.ranks == {0.25: 4, 0.5: 4, 1.0: 4}
    assert (horizon.moves, horizon.warning) == (False, "")


def test_an_answer_that_rises_with_the_budget_is_warned_about() -> None:
    horizon = judge_horizon(
        {1.0: confirm([0.4, 0.5, 0.6]), 0.25: confirm([0.3, 0.3, 0.3]), 0.5: confirm([0.3, 0.4, 0.4])}, RULE
    )
    assert horizon.ranks == {0.25: 1, 0.5: 4, 1.0: 16}
    assert horizon.moves
    assert horizon.warning == (
        "The smallest rank that is shown to suffice differs by budget (r=1 at 25 %, r=4 at 50 %, r=16 at 100 %): "
        "a longer run may want a larger one."
    )


def test_an_answer_that_falls_or_wavers_is_warned_about_too() -> None:
    high, low = confirm([0.4, 0.5, 0.6]), confirm([0.4, 0.6, 0.6])
    assert "may want a smaller one" in judge_horizon({0.5: high, 1.0: low}, RULE).warning
    assert "may want a different one" in judge_horizon({0.25: high, 0.5: low, 1.0: high}, RULE).warning


def test_an_undecided_share_is_no_move_and_is_named() -> None:
    horizon = judge_horizon({0.25: confirm([0.4, 0.5, 0.5], noise_sd=0.2), 1.0: confirm([0.4, 0.6, 0.6])}, RULE)
    assert horizon.ranks == {0.25: None, 1.0: 4}
    assert not horizon.moves
    assert horizon.warning.endswith("it is undecided at 25 % of it.")


def test_a_share_at_which_nothing_is_learned_yet_is_named_as_such() -> None:
    horizon = judge_horizon({0.25: confirm([0.2, 0.2, 0.2]), 1.0: confirm([0.4, 0.6, 0.6])}, RULE)
    assert horizon.ranks == {0.25: None, 1.0: 4}
    assert horizon.warning.endswith("nothing is shown to be learned at 25 % of it.")


def test_without_an_answer_there_is_nothing_that_could_move() -> None:
    assert judge_horizon({0.5: confirm([0.4, 0.6, 0.6]), 1.0: confirm([0.2, 0.2, 0.2])}, RULE).warning == ""


@pytest.mark.parametrize("shares", [(), (0.0, 1.0), (25.0, 100.0)])
def test_shares_that_are_not_parts_of_the_budget_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        judge_horizon({share: confirm([0.5, 0.5, 0.5]) for share in shares}, RULE)
