"""Guards: a smaller rank has to pass them too, by the same paired rule and at the same error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import pytest

from sweep.statistics.assessment import Outcome, assess
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.decision import step_down, weigh
from sweep.statistics.guards import Guard
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import stand
from sweep.statistics.spending import critical_values
from sweep.statistics.verdict import judge
from tests.test_statistics_verdict import NOISE, ORDERS, confirm

RULE = Rule(keep=0.85, confidence=0.95, collapse_limit=0.3)
FORMAT = Guard(measure="reward:format", worse_by=0.1)
LENGTH = Guard(measure="completion_tokens", worse_by=20.0)
CUT = Guard(measure="cut", worse_by=0.05)
MEANS = [0.64, 0.64, 0.65, 0.64]
"""Every rank keeps 85 % of the best gain over .25."""


def guarded(*guards: Guard, **measured: Sequence[float]) -> tuple[Confirmation, Rule]:
    """A confirmation in which each guard's measure lies around the given means, and its rule."""
    by_guard = [np.array(measured[guard.measure.removeprefix("reward:")]) for guard in guards]
    spread = [guard.worse_by / 4 for guard in guards]
    noise = np.array([NOISE[order][::-1] for order in ORDERS]) / 0.04
    values = tuple(means[:, None] + sd * noise for means, sd in zip(by_guard, spread, strict=True))
    return replace(confirm(MEANS), guards=values), replace(RULE, guards=guards)


def test_a_rank_that_passes_score_and_guards_is_named() -> None:
    assert judge(confirm(MEANS), RULE).r == 1
    verdict = judge(*guarded(FORMAT, LENGTH, format=[0.9, 0.9, 0.9, 0.9], completion_tokens=[80, 80, 80, 80]))
    assert (verdict.outcome, verdict.r) == (Outcome.FOUND_SMALLEST_TRIED, 1)
    assert all(guard.passes for rank in verdict.per_rank for guard in rank.guards)


@pytest.mark.parametrize(
    ("guard", "measured", "said"),
    [
        (FORMAT, {"format": [0.6, 0.9, 0.9, 0.9]}, "worse than r=16 by more than 0.1 in format"),
        (LENGTH, {"completion_tokens": [160, 80, 80, 80]}, "worse than r=16 by more than 20 in completion length"),
        (CUT, {"cut": [0.2, 0.01, 0.01, 0.01]}, "worse than r=16 by more than 0.05 in share of cut completions"),
    ],
)
def test_a_rank_that_breaks_a_guard_is_not_named_and_the_guard_is(guard, measured, said) -> None:
    verdict = judge(*guarded(guard, **measured))
    assert (verdict.outcome, verdict.r) == (Outcome.FOUND_AND_SMALLER_SHOWN_WORSE, 4)
    assert f"the next rank down, r=1, is shown to be {said}." in verdict.reason
    smallest = verdict.per_rank[0].guards[0]
    assert (smallest.passes, smallest.start, smallest.measure) == (False, 16, guard.measure)
    assert json.dumps(asdict(verdict))


def test_what_is_better_than_the_start_passes_in_either_direction() -> None:
    verdict = judge(*guarded(FORMAT, LENGTH, format=[1.5, 0.9, 0.9, 0.9], completion_tokens=[10, 80, 80, 80]))
    assert verdict.r == 1


def test_a_guard_that_is_open_leaves_the_rank_open_with_the_seeds_it_needs() -> None:
    verdict = judge(*guarded(FORMAT, format=[0.815, 0.9, 0.9, 0.9]))
    assert (verdict.outcome, verdict.r) == (Outcome.FOUND_SMALLER_UNDECIDED, 4)
    assert (
        "whether r=1 would do is open: it could be worse than r=16 by more than 0.1 in format; about" in verdict.reason
    )
    assert verdict.seeds_needed is not None and verdict.seeds_needed > 10


def test_every_guard_has_to_pass_and_each_that_does_not_is_named() -> None:
    verdict = judge(*guarded(FORMAT, LENGTH, format=[0.6, 0.9, 0.9, 0.9], completion_tokens=[160, 80, 80, 80]))
    assert "by more than 0.1 in format and 20 in completion length" in verdict.reason
    passes = [guard.passes for guard in judge(
        *guarded(FORMAT, LENGTH, format=[0.9, 0.9, 0.9, 0.9], completion_tokens=[160, 80, 80, 80])
    ).per_rank[0].guards]  # fmt: skip
    assert passes == [True, False]


def test_the_start_is_not_held_against_itself() -> None:
    assessment = assess(*guarded(FORMAT, format=[0.1, 0.1, np.nan, 0.1]))
    assert assessment.decision.guards_pass[0].tolist() == [False, False, True, False]
    assert judge(*guarded(FORMAT, format=[0.1, 0.1, np.nan, 0.1])).r == 16


def test_a_measure_that_is_missing_shows_nothing() -> None:
    verdict = judge(*guarded(FORMAT, format=[np.nan, 0.9, 0.9, 0.9]))
    assert verdict.r == 4
    assert verdict.per_rank[0].guards[0].mean is None and not verdict.per_rank[0].guards[0].passes


def test_a_share_that_never_differs_is_not_certain_at_once() -> None:
    """With few prompts, no cut completion in a few seeds shows nothing; with many it does, before the last seed."""
    rule = replace(RULE, critical=tuple(critical_values(14, 0.95)), guards=(CUT,))
    gains = np.array([[0.3, 0.31, 0.3, 0.29, 0.3, 0.31], [0.31, 0.3, 0.29, 0.3, 0.31, 0.3]])
    none = (np.zeros((2, 6)),)
    few, many = (weigh(gains, np.zeros((2, 6)), rule, guards=none, prompts=n).guards[0].lower[0, 1] for n in (8, 1024))
    assert few < -0.05 < many < 0


@pytest.mark.parametrize("guards", [1, 2])
def test_a_rank_at_a_guards_limit_is_named_no_more_often_than_declared(guards) -> None:
    """The score is fine, and of the guards one lies at its limit: 2,000 studies, seeds one by one."""
    rng, n, cap = np.random.default_rng(guards), 2000, 14
    rule = replace(
        RULE, collapse_limit=1.0, critical=tuple(critical_values(cap, 0.95)), guards=(FORMAT, LENGTH)[:guards]
    )
    gains = np.array([0.35, 0.35])[:, None] + 0.02 * rng.standard_normal((n, 2, cap))
    at_limit = np.array([-0.1, 0.0])[:, None] + rng.standard_normal((n, 2, cap)) * np.array([0.02, 0.05])[:, None]
    harmless = 80 + 2 * rng.standard_normal((n, 2, cap))
    named, goes_on = np.zeros(n, dtype=bool), np.arange(n)
    for k in range(3, cap + 1):
        values = tuple(own[goes_on, :, :k] for own in (at_limit, harmless)[:guards])
        evidence = weigh(gains[goes_on, :, :k], np.zeros((len(goes_on), 2, k)), rule, guards=values)
        decision = step_down(evidence, np.tile([0.5, 0.6], (len(goes_on), 1)), rule)
        named[goes_on] = decision.smallest == 0
        goes_on = goes_on[stand(evidence, decision, rule).goes_on(k, rule)]
    # Three standard errors above 5 %; and it has power to err: the limit is where it should be.
    assert 0.02 < named.mean() < 0.065


@pytest.mark.parametrize("prompts", [16, 64, 256])
def test_a_format_that_is_just_too_much_worse_than_always_right_is_rarely_passed(prompts) -> None:
    """Means of zeros and ones with the start at one: 4,000 studies, seeds one by one up to 14."""
    rng, n, cap = np.random.default_rng(prompts), 4000, 14
    rule = replace(
        RULE, collapse_limit=1.0, critical=tuple(critical_values(cap, 0.95)), guards=(replace(FORMAT, worse_by=0.02),)
    )
    gains = 0.35 + 0.02 * rng.standard_normal((n, 2, cap))
    right = rng.binomial(prompts, [[0.98], [1.0]], (n, 2, cap)) / prompts
    evidence = weigh(gains, np.zeros((n, 2, cap)), rule, guards=(right,), prompts=prompts)
    passed = (evidence.guards[0].lower[:, 0, 1] > -0.02).mean()
    assert passed < 0.05 + 2 * np.sqrt(0.05 * 0.95 / n)


def test_a_reward_beyond_zero_and_one_has_no_least_spread() -> None:
    share, score = np.full((2, 4), 0.99), np.full((2, 4), 1.5)
    assert replace(FORMAT, worse_by=0.02).least_sd(64, np.stack([share, score])).ravel() == pytest.approx([0.0175, 0.0])
    assert LENGTH.least_sd(64, share).item() == FORMAT.least_sd(None, share).item() == 0.0


def test_without_guards_nothing_changes() -> None:
    plain, (confirmation, rule) = judge(confirm(MEANS), RULE), guarded()
    assert judge(confirmation, rule) == plain
    assert all(rank.guards == () for rank in plain.per_rank)
