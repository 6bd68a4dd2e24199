"""How many seeds would likely settle a verdict that is still open.

A plan, not a promise: it takes the differences and spreads seen so far for the truth, and the seeds that
bring the customary power for whichever way the rank in question seems to go.
"""

from __future__ import annotations

import math

import numpy as np

from sweep.statistics.assessment import Assessment, Outcome
from sweep.statistics.collapse import seeds_to_settle_collapse
from sweep.statistics.power import MOST_SEEDS, seeds_for_power

WORTH_ADDING = 3
"""Where nothing is shown to have learned, how many times the seeds a plan may ask for: chance alone makes some
rank look a little better than the base policy, and a plan for that would chase noise."""


def seeds_to_settle(assessment: Assessment) -> int | None:
    """Total seeds per rank after which the open rank has likely passed or been shown worse.

    Where nothing is shown to have learned: after which some rank likely is.

    Returns:
        More than the seeds that the open rank has now. None when no rank is open, when there are too few
        seeds to plan from, when `MOST_SEEDS` would not do, or when more seeds are not the remedy: the
        rank that the search favours looks worse than another by more than the rule allows, or no rank looks as if
        it had learned anything.
    """
    if assessment.outcome is Outcome.NOTHING_LEARNED:
        return _seeds_for_a_gain(assessment)
    rank = assessment.open_rank
    if rank < 0:
        return None
    plans: list[int | None] = [int(assessment.confirmation.n_ran[rank]) + 1]
    if not assessment.evidence.within[rank]:
        plans.append(_seeds_for_collapse(rank, assessment))
    if not assessment.decision.score_passes[rank]:
        plans.append(_seeds_for_score(rank, assessment))
    return _longest(plans)


def _seeds_for_a_gain(assessment: Assessment) -> int | None:
    """Seeds with which the rank that looks most like it would be shown to have learned, if they are not many more."""
    confirmation = assessment.confirmation
    plans = []
    for rank in np.flatnonzero(assessment.decision.judged).tolist():
        needed, n_ran = _seeds(rank, rank, 1, assessment), int(confirmation.n_ran[rank])
        if needed is not None and needed <= WORTH_ADDING * n_ran:
            plans.append(max(needed, n_ran + 1))
    return min(plans, default=None)


def _seeds_for_collapse(rank: int, assessment: Assessment) -> int | None:
    n_collapsed = int(assessment.confirmation.n_collapsed[rank])
    n_ran = int(assessment.confirmation.n_ran[rank])
    rule = assessment.rule
    return seeds_to_settle_collapse(n_collapsed, n_ran, rule.collapse_limit, rule.bound_confidence, MOST_SEEDS)


def _seeds_for_score(rank: int, assessment: Assessment) -> int | None:
    """Seeds to pass against every rival or, where that looks out of reach, to be shown worse than start."""
    bounds, rule, start = assessment.evidence.bounds, assessment.rule, assessment.start
    rivals = assessment.rivals(rank)
    if not rivals or min(int(bounds.n_seeds[rank, j]) for j in rivals) < 2:
        return None
    if rule.gains and not bounds.mean[rank, rank] > assessment.evidence.rounding:
        return None
    gaps = {j: rule.margin + float(bounds.mean[rank, j]) for j in rivals}
    if min(gaps.values()) > 0:
        own = [rank] if rule.gains else []
        return _longest([_seeds(rank, j, len(rivals), assessment) for j in [*rivals, *own]])
    return _seeds(rank, start, 1, assessment, worse=True) if rank != start and gaps[start] < 0 else None


def _seeds(rank: int, rival: int, n_rivals: int, assessment: Assessment, *, worse: bool = False) -> int | None:
    """Seeds for one contrast, or for the rank's own gain where the rival is the rank itself."""
    bounds, rule = assessment.evidence.bounds, assessment.rule
    gap = float(bounds.mean[rank, rival]) + (0.0 if rival == rank else rule.margin)
    if abs(gap) <= assessment.evidence.rounding:
        return None
    sd, n_shared = float(bounds.sd[rank, rival]), int(bounds.n_seeds[rank, rival])
    if n_shared < 2:
        return None
    shared = seeds_for_power(-gap if worse else gap, sd, n_rivals, rule.bound_confidence)
    # Seeds on which either of the two collapsed or failed do not count; expect the same share again.
    return None if shared is None else math.ceil(shared * int(assessment.confirmation.n_ran[rank]) / n_shared)


def _longest(plans: list[int | None]) -> int | None:
    """The plan that satisfies all; None when one of them cannot be satisfied within `MOST_SEEDS`."""
    known = [plan for plan in plans if plan is not None and plan <= MOST_SEEDS]
    return max(known) if len(known) == len(plans) else None
