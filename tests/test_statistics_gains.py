"""The verdict over gains: the share of the best one that a rank keeps, and studies in which nothing was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from sweep.statistics.assessment import Outcome
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.rule import Rule
from sweep.statistics.verdict import judge
from tests.test_statistics_verdict import KEEP, RULE, confirm, outcome


def test_a_rank_that_keeps_the_share_of_the_best_gain_is_found() -> None:
    # Gains .10, .31, .35, .34 over the base policy: rank 4 keeps 89 % of the best.
    verdict = judge(confirm([0.35, 0.56, 0.60, 0.59]), replace(KEEP, keep=0.7))
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 4)
    assert verdict.reason == (
        "r=4 is the smallest to keep 70 % of the best gain (95 % confidence, 10 seeds); the next rank down, r=1, is "
        "shown to keep less than 70 % of that of r=16."
    )
    assert (verdict.keep, verdict.tolerance, verdict.base) == (0.7, None, pytest.approx(0.25))
    assert [summary.kept for summary in verdict.per_rank] == pytest.approx([0.10 / 0.35, 0.31 / 0.35, 1, 0.34 / 0.35])
    assert [summary.gain for summary in verdict.per_rank] == pytest.approx([0.10, 0.31, 0.35, 0.34])


def test_a_rank_whose_share_is_open_says_so() -> None:
    verdict = judge(confirm([0.35, 0.56, 0.60, 0.60]), KEEP)
    assert outcome(verdict) == ("found_smaller_undecided", 16)
    assert "whether r=4 would do is open: it could keep less than 85 % of the gain of r=" in verdict.reason


def test_the_bound_under_keep_is_the_paired_t_bound_of_the_contrast() -> None:
    confirmation = confirm([0.40, 0.46, 0.60, 0.58])
    confirmation.base[:] = 0.25 + 0.02 * np.sin(np.arange(10))
    gains = confirmation.scores - confirmation.base
    contrast = stats.ttest_1samp(gains[1] - 0.85 * gains[2], 0.0).confidence_interval(0.90)
    own = stats.ttest_1samp(gains[1], 0.0).confidence_interval(0.90)
    summary = judge(confirmation, KEEP).per_rank[1]
    assert summary.worst_rival == 16
    assert summary.bound_against_worst_rival == pytest.approx(contrast.low)
    assert summary.gain_lower == pytest.approx(own.low)


@pytest.mark.parametrize("rule", [RULE, KEEP], ids=["tolerance", "keep"])
def test_ranks_that_are_as_good_as_the_base_policy_have_learned_nothing(rule: Rule) -> None:
    verdict = judge(confirm([0.55, 0.551, 0.549, 0.55], base=0.549), rule)
    assert outcome(verdict) == ("nothing_learned", None)
    assert (verdict.alpha, verdict.learning_rate, verdict.seeds_needed) == (None, None, None)
    assert verdict.answer == "nothing learned"
    assert verdict.reason.startswith(
        "Nothing learned (95 % confidence, 10 seeds): no rank is shown to beat the base policy; try higher learning"
    )
    assert "a gain of 0.03" in verdict.reason


@pytest.mark.parametrize("level", [0.0, -7.5, 1e6])
def test_a_constant_reward_teaches_nothing(level: float) -> None:
    frozen = confirm([level] * 4).frozen
    same = np.full((4, 10), level)
    confirmation = Confirmation(frozen=frozen, scores=same, collapsed=same > np.inf, base=same[0])
    for rule in (RULE, KEEP):
        verdict = judge(confirmation, rule)
        assert outcome(verdict) == ("nothing_learned", None)
        assert "would likely have been seen" not in verdict.reason


@pytest.mark.parametrize("rule", [RULE, KEEP], ids=["tolerance", "keep"])
@pytest.mark.parametrize("level", [0.1, -7.3, 100.1])
@pytest.mark.parametrize("left_out", [0.0, 0.3])
def test_what_the_mean_of_equal_rewards_is_off_by_is_no_gain(level: float, left_out: float, rule: Rule) -> None:
    rng = np.random.default_rng(0)

    def mean(left_out: float) -> float:
        return float(np.nanmean(np.where(rng.random(256) < left_out, np.nan, level)))

    base = np.array([mean(left_out) for _ in range(10)])
    near = np.nextafter(base, np.inf)
    for above in (near, np.nextafter(near, np.inf), np.array([mean(0.0) for _ in range(10)])):
        frozen = confirm([level, level], ladder=[1, 16]).frozen
        scores = np.tile(above, (2, 1))
        confirmation = Confirmation(frozen=frozen, scores=scores, collapsed=scores > np.inf, base=base)
        verdict = judge(confirmation, rule)
        assert outcome(verdict) == ("nothing_learned", None)
        assert verdict.seeds_needed is None
        assert {summary.kept for summary in verdict.per_rank} == {None}


def test_ranks_that_fall_below_the_base_policy_are_told_to_learn_more_slowly() -> None:
    verdict = judge(confirm([0.45, 0.50, 0.40, 0.54], base=0.55), KEEP)
    assert outcome(verdict) == ("nothing_learned", None)
    assert "r=1 and r=4 and r=16 were shown to fall below it: try lower learning rates" in verdict.reason


def gained(*gains: Sequence[float], spread: float | None = None, base: float = 0.25) -> Confirmation:
    """These gains over a base policy that scores the same on every seed."""
    scores = base + np.array(gains)
    frozen = confirm([0.5] * len(scores), ladder=[1, 16][: len(scores)]).frozen
    level = np.full(scores.shape[1], base)
    return Confirmation(frozen=frozen, scores=scores, collapsed=scores > np.inf, base=level, spread=spread)


FIRST_LOOK = Rule(keep=0.85, confidence=0.95, collapse_limit=1.0, looks=2)
RARELY = [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
OFTEN = [0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]
LOOSE = replace(KEEP, collapse_limit=0.35, looks=2)


@pytest.mark.parametrize(
    "rule", [FIRST_LOOK, replace(FIRST_LOOK, keep=None, tolerance=0.05)], ids=["keep", "tolerance"]
)
def test_large_gains_on_few_seeds_are_undecided(rule: Rule) -> None:
    verdict = judge(gained([0.10, 0.25, 0.22], [0.11, 0.30, 0.20]), rule)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.answer == "undecided"
    assert verdict.reason == (
        "Undecided (95 % confidence, 3 seeds): no rank is shown to beat the base policy yet, and r=16 may: its gain is "
        "between -0.033 and 0.44; about 4 seeds per rank would likely tell, as it looks now."
    )


def test_policies_that_sample_alike_are_told_what_gain_could_have_been_seen() -> None:
    alike = replace(gained([0.0] * 10, [0.0] * 10, spread=0.43), prompts=256)
    verdict = judge(alike, LOOSE)
    assert outcome(verdict) == ("nothing_learned", None)
    assert verdict.reason.endswith("; a gain of 0.038 or more would likely have been seen.")
    assert "a gain of 3.8 or more" in judge(replace(alike, spread=43.0), LOOSE).reason
    assert "have been seen" not in judge(replace(alike, spread=0.0), LOOSE).reason


def test_gains_on_some_seeds_alone_are_undecided() -> None:
    verdict = judge(gained(OFTEN, OFTEN), LOOSE)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.seeds_needed is not None


def test_a_gain_on_one_seed_of_ten_is_open_where_it_would_matter() -> None:
    verdict = judge(gained(RARELY, [0.0] * 10, spread=0.43), LOOSE)
    assert outcome(verdict) == ("undecided", None)
    assert "r=1 may: its gain is between -0.063 and 0.16" in verdict.reason
    assert verdict.seeds_needed is not None
    assert outcome(judge(gained(RARELY, [0.0] * 10, spread=4.3), LOOSE)) == ("nothing_learned", None)


def test_the_seeds_asked_for_rule_a_gain_out_or_show_it() -> None:
    for gains in (RARELY, OFTEN):
        confirmation = gained(gains, gains, spread=0.43)
        needed = judge(confirmation, LOOSE).seeds_needed
        assert needed is not None
        longer = gained(*[gains * -(-needed // 10)] * 2, spread=0.43)
        assert judge(longer, LOOSE).outcome is not Outcome.UNDECIDED


@pytest.mark.parametrize("n_seeds", [9, 10])
def test_what_sampling_alone_makes_of_an_untrained_policy_is_rarely_called_open(n_seeds: int) -> None:
    rng = np.random.default_rng(0)
    gains = rng.normal(0.0, 0.43 * np.sqrt(2 / 256), (400, 2, n_seeds))
    ends = [judge(gained(*study.tolist(), spread=0.43), LOOSE).outcome for study in gains]
    assert ends.count(Outcome.NOTHING_LEARNED) > 0.8 * len(ends)
    assert sum(end not in (Outcome.NOTHING_LEARNED, Outcome.UNDECIDED) for end in ends) <= 0.05 * len(ends)


def test_a_gain_that_a_few_more_seeds_would_show_is_given_them() -> None:
    verdict = judge(confirm([0.25, 0.25, 0.25, 0.27]), KEEP)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.seeds_needed is not None
    assert 10 < verdict.seeds_needed <= 30
    assert verdict.reason.endswith(f"about {verdict.seeds_needed} seeds per rank would likely tell, as it looks now.")


def test_a_small_gain_beside_unlearned_ranks_is_no_failure_to_learn() -> None:
    verdict = judge(confirm([0.25, 0.25, 0.25, 0.35]), KEEP)
    assert outcome(verdict)[1] == 64
    assert verdict.outcome is Outcome.FOUND_AND_SMALLER_SHOWN_WORSE


def test_too_few_seeds_for_any_rank_are_undecided_and_not_unlearned() -> None:
    full = confirm([0.25] * 4)
    short = Confirmation(
        frozen=full.frozen, scores=full.scores[:, :3], collapsed=full.collapsed[:, :3], base=np.full(3, 0.25)
    )
    assert outcome(judge(short, KEEP)) == ("undecided", None)


def test_seeds_without_a_score_of_the_base_policy_do_not_count() -> None:
    confirmation = confirm([0.40, 0.46, 0.60, 0.60])
    confirmation.base[:3] = np.nan
    assert {summary.n_seeds for summary in judge(confirmation, KEEP).per_rank} == {7}


def test_a_rule_that_looks_at_gains_needs_them() -> None:
    confirmation = replace(confirm([0.5, 0.6], ladder=[4, 16]), base=None)
    with pytest.raises(ValueError, match="base policy"):
        judge(confirmation, RULE)
    verdict = judge(confirmation, replace(RULE, gains=False))
    assert (verdict.outcome, verdict.base) == (Outcome.FOUND_AND_SMALLER_SHOWN_WORSE, None)
    assert {summary.gain for summary in verdict.per_rank} == {None}


@pytest.mark.parametrize("n_seeds", [2, 3])
@pytest.mark.parametrize("spread", [None, 0.0, 0.2])
def test_rewards_that_are_all_zero_on_a_few_seeds_read_as_nothing_seen_to_be_learned(n_seeds, spread) -> None:
    zeros = np.zeros((4, n_seeds))
    few = replace(
        confirm([0.0] * 4, base=0.0), scores=zeros, base=zeros[0], collapsed=zeros > 0, spread=spread, prompts=64
    )
    verdict = judge(few, KEEP)
    assert outcome(verdict) == ("undecided", None)  # so few seeds do not show that collapse is rare
    assert verdict.reason == (
        f"Undecided (95 % confidence, {n_seeds} seeds): no rank's mean reward is above the base policy's, so nothing "
        "is seen to be learned yet; before adding seeds, try higher learning rates, more steps, or a reward in which "
        "`sweep try-reward` sees signal."
    )
    # One rank above the base policy is enough to ask for more.
    gained = replace(few, scores=zeros + np.array([[0.0], [0.1], [0.0], [0.0]]))
    assert "seen to be learned" not in judge(gained, KEEP).reason
