"""The verdict: what is found, how it is called, what is left open, and the sentence that says so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sweep.statistics.assessment import Outcome
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.paired import mean_interval
from sweep.statistics.power import seeds_for_power
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import FrozenConfiguration, UntunedRank
from sweep.statistics.verdict import Verdict, judge
from tests.test_statistics_paired import paired_lower_bound

LADDER = (1, 4, 16, 64)
RULE = Rule(tolerance=0.05, confidence=0.95, collapse_limit=0.3)
KEEP = Rule(keep=0.85, confidence=0.95, collapse_limit=0.3)
# Ten seeds of noise, mean zero and sd .04, in a different order for each rank.
NOISE = 0.04 * np.array([-1.5, -1.1, -0.7, -0.4, -0.1, 0.1, 0.4, 0.7, 1.1, 1.5]) / 0.97
ORDERS = (
    [3, 8, 0, 5, 9, 1, 6, 2, 7, 4],
    [9, 2, 5, 0, 7, 4, 1, 8, 3, 6],
    [1, 6, 8, 3, 2, 9, 0, 5, 4, 7],
    [7, 0, 4, 9, 1, 5, 8, 6, 2, 3],
)


def confirm(
    means: Sequence[float],
    *,
    ladder: Sequence[int] = LADDER,
    collapses: Sequence[int] = (0, 0, 0, 0),
    smoothed: Sequence[float] | None = None,
    untuned: Sequence[int] = (),
    base: float = 0.25,
) -> Confirmation:
    """Ten seeds per rank around the given means; the first seeds of a rank collapse."""
    frozen = tuple(
        FrozenConfiguration(r=r, alpha=2 * r, learning_rate=2e-3, smoothed=s, search_mean=s, n_search_trials=1)
        for r, s in zip(ladder, smoothed or means, strict=True)
    )
    scores = np.array([mean + NOISE[order] for mean, order in zip(means, ORDERS, strict=False)])
    collapsed = np.array([[seed < n for seed in range(10)] for n in collapses[: len(means)]])
    return Confirmation(
        frozen=frozen,
        scores=np.where(collapsed, 0.0, scores),
        collapsed=collapsed,
        base=np.full(10, base),
        untuned=tuple(UntunedRank(r=r, n_points=1, reason="not tuned: 1 of 4 search points") for r in untuned),
    )


def outcome(verdict: Verdict) -> tuple[str, int | None]:
    return verdict.outcome.value, verdict.r


def test_a_rank_is_found_and_the_next_one_down_shown_worse() -> None:
    verdict = judge(confirm([0.40, 0.46, 0.60, 0.59]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 16)
    assert (verdict.alpha, verdict.learning_rate, verdict.seeds_needed) == (32, 2e-3, None)
    assert verdict.reason == (
        "r=16 is the smallest rank within 0.05 of the best (95 % confidence, 10 seeds); "
        "the next rank down, r=4, is shown to be more than 0.05 below r=16."
    )


def test_a_rank_that_the_step_down_did_not_reach_is_not_called_too_small() -> None:
    verdict = judge(confirm([0.60, 0.46, 0.60, 0.59]), RULE)
    assert verdict.r == 16
    assert verdict.per_rank[0].passes
    assert verdict.reason == (
        "r=16 is shown to be within 0.05 of the best (95 % confidence, 10 seeds); the next rank down, r=4, is shown to "
        "be more than 0.05 below r=16, and r=1 below it was not reached."
    )


def test_a_rank_above_that_was_not_tuned_is_named() -> None:
    verdict = judge(confirm([0.60, 0.60], ladder=[4, 16], untuned=[64]), RULE)
    assert verdict.r == 4
    assert verdict.reason.endswith("; r=64 was not tuned like the others and so not compared.")


def test_the_smallest_rank_on_the_ladder_is_named_as_such() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60]), RULE)
    assert outcome(verdict) == ("found_smallest_tried", 1)
    assert verdict.reason.endswith("; no smaller rank was tried.")


def test_a_smaller_rank_in_between_is_left_open_with_the_seeds_it_needs() -> None:
    verdict = judge(confirm([0.40, 0.57, 0.60, 0.60]), RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 16)
    assert verdict.seeds_needed is not None
    assert verdict.seeds_needed > 10
    assert "whether r=4 would do is open: it could be 0.0" in verdict.reason
    assert verdict.reason.endswith(f"; about {verdict.seeds_needed} seeds per rank would likely settle it.")


def test_a_rank_at_the_boundary_is_called_too_close() -> None:
    verdict = judge(confirm([0.40, 0.55, 0.60, 0.60]), RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 16)
    assert verdict.seeds_needed is None
    assert "too close to call" in verdict.reason


def test_the_seeds_asked_for_settle_a_study_that_goes_on_like_that() -> None:
    confirmation = confirm([0.40, 0.56, 0.60, 0.60])
    needed = judge(confirmation, RULE).seeds_needed
    assert needed is not None
    repeats = -(-needed // 10)
    longer = Confirmation(
        frozen=confirmation.frozen,
        scores=np.tile(confirmation.scores, repeats),
        collapsed=np.tile(confirmation.collapsed, repeats),
        base=np.full(10 * repeats, 0.25),
    )
    assert outcome(judge(longer, RULE)) == ("found_and_smaller_shown_worse", 4)


def test_a_rank_that_looks_too_small_is_given_the_seeds_that_would_show_it() -> None:
    confirmation = confirm([0.40, 0.53, 0.60, 0.59])
    verdict = judge(confirmation, RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 16)
    assert verdict.seeds_needed is not None
    repeats = -(-verdict.seeds_needed // 10)
    longer = Confirmation(
        frozen=confirmation.frozen,
        scores=np.tile(confirmation.scores, repeats),
        collapsed=np.tile(confirmation.collapsed, repeats),
        base=np.full(10 * repeats, 0.25),
    )
    assert outcome(judge(longer, RULE)) == ("found_and_smaller_shown_worse", 16)


def test_seeds_on_which_a_rival_collapses_are_planned_for() -> None:
    confirmation = confirm([0.57, 0.60], ladder=[4, 16], collapses=[0, 5])
    rule = Rule(tolerance=0.05, confidence=0.95, collapse_limit=0.8)
    differences = (confirmation.scores[0] - confirmation.scores[1])[5:]
    shared = seeds_for_power(0.05 + differences.mean(), differences.std(ddof=1), 1, 0.95)
    assert shared is not None
    assert judge(confirmation, rule).seeds_needed == 2 * shared


def test_a_peak_in_the_middle_is_compared_with_the_peak_and_not_with_the_largest_rank() -> None:
    verdict = judge(confirm([0.40, 0.50, 0.60, 0.50]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 16)
    assert {s.r: s.worst_rival for s in verdict.per_rank} == {
        1: 16,
        4: 16,
        16: verdict.per_rank[2].worst_rival,
        64: 16,
    }


def test_a_larger_rank_that_is_better_than_the_favourite_keeps_it_from_passing() -> None:
    verdict = judge(confirm([0.40, 0.40, 0.50, 0.60], smoothed=[0.1, 0.2, 0.9, 0.5]), RULE)
    assert outcome(verdict) == ("undecided", None)
    assert (verdict.alpha, verdict.learning_rate, verdict.seeds_needed) == (None, None, None)
    assert "r=16, which the search favours, could be 0.1" in verdict.reason
    assert verdict.reason.endswith("r=64 looks more than 0.05 better: search on before adding seeds.")


def test_ranks_above_the_favourite_of_the_search_are_not_walked_through() -> None:
    verdict = judge(confirm([0.40, 0.60, 0.60, 0.40], smoothed=[0.1, 0.9, 0.5, 0.5]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 4)


def test_a_rank_that_passes_below_one_that_does_not_is_not_reached() -> None:
    verdict = judge(confirm([0.60, 0.46, 0.60, 0.60], smoothed=[0.1, 0.2, 0.3, 0.9]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 16)
    assert [summary.passes for summary in verdict.per_rank] == [True, False, True, True]


def test_one_collapse_in_ten_keeps_a_rank_from_being_recommended() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[1, 0, 0, 0]), RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 4)
    assert verdict.seeds_needed == 14
    assert "it collapsed in 1 of 10 seeds, which does not show a rate of at most 0.3" in verdict.reason
    assert verdict.per_rank[0].collapse_upper == pytest.approx(0.3942, abs=1e-4)


def test_a_looser_limit_lets_one_collapse_in_ten_pass() -> None:
    rule = Rule(tolerance=0.05, confidence=0.95, collapse_limit=0.4)
    assert judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[1, 0, 0, 0]), rule).r == 1


def test_a_rank_shown_to_collapse_is_no_rival_however_good_it_is() -> None:
    verdict = judge(confirm([0.46, 0.60, 0.60, 0.90], collapses=[0, 0, 0, 6]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 4)
    assert verdict.per_rank[3].why_not_judged == "collapsed in 6 of 10 seeds"
    assert (verdict.per_rank[3].judged, verdict.per_rank[3].worst_rival) == (False, None)
    assert verdict.reason.endswith("; r=64 is not compared: it collapsed in 6 of 10 seeds.")


def test_a_rank_shown_to_collapse_is_stepped_over() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[0, 8, 0, 0]), RULE)
    assert outcome(verdict) == ("found_smallest_tried", 1)


def test_smaller_ranks_that_all_collapse_are_shown_worse() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[8, 8, 0, 0]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 16)
    assert "every smaller rank is shown to collapse too often" in verdict.reason


def test_no_rank_is_recommended_where_all_collapse() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[8, 8, 8, 8]), RULE)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.reason.startswith("No rank can be recommended")


def test_an_untuned_rank_just_below_the_answer_leaves_it_open() -> None:
    verdict = judge(confirm([0.40, 0.46, 0.60, 0.60], untuned=[8]), RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 16)
    assert verdict.seeds_needed is None
    assert verdict.reason.endswith("; r=8 below it was not tuned and so not judged.")
    assert [(s.r, s.judged, s.why_not_judged) for s in verdict.per_rank if s.r == 8] == [
        (8, False, "not tuned: 1 of 4 search points")
    ]


def test_an_untuned_rank_further_down_does_not() -> None:
    verdict = judge(confirm([0.40, 0.46, 0.60, 0.60], untuned=[2, 128]), RULE)
    assert outcome(verdict) == ("found_and_smaller_shown_worse", 16)
    assert [summary.r for summary in verdict.per_rank] == [1, 2, 4, 16, 64, 128]


def test_an_untuned_rank_below_the_smallest_judged_one_leaves_it_open() -> None:
    verdict = judge(confirm([0.60, 0.60], ladder=[4, 16], untuned=[1, 2]), RULE)
    assert outcome(verdict) == ("found_smaller_undecided", 4)
    assert "r=1 and r=2 below it were not tuned" in verdict.reason


def test_one_tuned_rank_is_not_compared_with_itself() -> None:
    verdict = judge(confirm([0.60], ladder=[16], untuned=[1]), RULE)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.reason == "Only r=16 was tuned, so there is nothing to compare it with."
    assert verdict.per_rank[1].mean == pytest.approx(0.60)


def test_no_tuned_rank_gives_no_verdict() -> None:
    nothing = Confirmation(
        frozen=(),
        scores=np.empty((0, 10)),
        collapsed=np.empty((0, 10), dtype=bool),
        untuned=(UntunedRank(r=4, n_points=0, reason="not tuned"),),
    )
    verdict = judge(nothing, RULE)
    assert outcome(verdict) == ("undecided", None)
    assert verdict.reason == "No rank was tuned, so there is nothing to compare."


@pytest.mark.parametrize("n_seeds", [0, 1])
def test_too_few_seeds_decide_nothing(n_seeds: int) -> None:
    full = confirm([0.60, 0.60, 0.60, 0.60])
    short = Confirmation(
        frozen=full.frozen,
        scores=full.scores[:, :n_seeds],
        collapsed=full.collapsed[:, :n_seeds],
        base=np.full(n_seeds, 0.25),
    )
    verdict = judge(short, Rule(tolerance=0.05, confidence=0.95, collapse_limit=1.0))
    assert outcome(verdict) == ("undecided", None)
    assert "has too few seeds to be compared" in verdict.reason
    assert {summary.lower for summary in verdict.per_rank} == {None}


def test_a_failed_trial_costs_its_seed_in_its_own_pairs_only() -> None:
    confirmation = confirm([0.40, 0.46, 0.60, 0.60])
    confirmation.scores[2, 4] = np.nan
    verdict = judge(confirmation, RULE)
    assert [summary.n_seeds for summary in verdict.per_rank] == [10, 10, 9, 10]
    assert {summary.collapsed for summary in verdict.per_rank} == {0}
    assert verdict.r == 16


def test_the_table_holds_the_intervals_and_bounds_of_the_parts() -> None:
    confirmation = confirm([0.40, 0.46, 0.60, 0.58])
    small, favourite = confirmation.scores[1].tolist(), confirmation.scores[2].tolist()
    summary = judge(confirmation, RULE).per_rank[1]
    assert (summary.lower, summary.upper) == pytest.approx(mean_interval(small, 0.95))
    assert summary.worst_rival == 16
    assert summary.bound_against_worst_rival == pytest.approx(paired_lower_bound(small, favourite, 0.95))


def test_a_verdict_is_ready_for_json() -> None:
    verdict = judge(confirm([0.60, 0.60, 0.60, 0.60], collapses=[0, 9, 0, 0], untuned=[8]), RULE)
    read = json.loads(json.dumps(asdict(verdict), allow_nan=False))
    assert read["outcome"] == "found_smallest_tried"
    assert read["per_rank"][1]["mean"] == pytest.approx(float(confirm([0.6] * 4).scores[1, 9]))


def test_more_looks_make_each_bound_stricter() -> None:
    twice = Rule(tolerance=0.05, confidence=0.95, collapse_limit=0.4, looks=2)
    assert twice.bound_confidence == pytest.approx(0.975)
    once = judge(confirm([0.60] * 4), RULE).per_rank[0].bound_against_worst_rival
    again = judge(confirm([0.60] * 4), twice).per_rank[0].bound_against_worst_rival
    assert once is not None
    assert again is not None
    assert again < once


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": 0}, {"confidence": 95}, {"confidence": 1}, {"collapse_limit": 0}, {"looks": 0}, {"keep": 0.85}],
)
def test_a_rule_that_cannot_be_met_is_refused(wrong: dict[str, float]) -> None:
    settings: dict[str, float] = {"tolerance": 0.05, "confidence": 0.95, "collapse_limit": 0.3, **wrong}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rule(**settings)  # type: ignore[arg-type]


def test_ranks_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="ascending"):
        confirm([0.5, 0.6], ladder=[16, 4])


def test_a_rank_both_frozen_and_untuned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[16\]"):
        confirm([0.5, 0.6], ladder=[4, 16], untuned=[16])


@settings(deadline=None)
@given(
    scores=hnp.arrays(np.float64, (4, 10), elements=st.floats(0, 1)),
    collapsed=hnp.arrays(np.bool_, (4, 10), elements=st.sampled_from([False] * 9 + [True])),
    smoothed=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    base=hnp.arrays(np.float64, 10, elements=st.floats(0, 0.3)),
    rule=st.sampled_from([RULE, KEEP]),
)
def test_the_answer_is_reached_only_through_ranks_that_pass(
    scores: np.ndarray, collapsed: np.ndarray, smoothed: list[float], base: np.ndarray, rule: Rule
) -> None:
    frozen = confirm([0.5] * 4, smoothed=smoothed).frozen
    confirmation = Confirmation(frozen=frozen, scores=scores, collapsed=collapsed, base=base)
    verdict = judge(confirmation, rule)
    judged = [summary for summary in verdict.per_rank if summary.judged]
    if verdict.r is None:
        assert verdict.outcome in (Outcome.UNDECIDED, Outcome.NOTHING_LEARNED)
        return
    smoothed_by_rank = {c.r: c.smoothed for c in frozen}
    start = max(judged, key=lambda summary: (smoothed_by_rank[summary.r], summary.r)).r
    assert all(summary.passes for summary in judged if verdict.r <= summary.r <= start)
    below = [summary for summary in judged if summary.r < verdict.r]
    assert not below or not below[-1].passes
