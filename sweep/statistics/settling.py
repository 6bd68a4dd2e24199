"""How many seeds would likely settle a verdict that is still open.

A plan, not a promise: it takes the differences and spreads seen so far for the truth, and the seeds that
bring the customary power for whichever way the rank in question seems to go.
"""

from __future__ import annotations

import math

from sweep.statistics.assessment import Assessment
from sweep.statistics.collapse import seeds_to_settle_collapse
from sweep.statistics.power import MOST_SEEDS, seeds_for_power


def seeds_to_settle(assessment: Assessment) -> int | None:
    """Total seeds per rank after which the open rank has likely passed or been shown worse.

    Returns:
        More than the seeds that the open rank has now. None when no rank is open, when there are too few
        seeds to plan from, when `MOST_SEEDS` would not do, or when more seeds are not the remedy: the
        rank that the search favours looks worse than another by more than the tolerance.
    """
    rank = assessment.open_rank
    if rank < 0:
        return None
    plans: list[int | None] = [int(assessment.confirmation.n_ran[rank]) + 1]
    if not assessment.evidence.within[rank]:
        plans.append(_seeds_for_collapse(rank, assessment))
    if not assessment.decision.score_passes[rank]:
        plans.append(_seeds_for_score(rank, assessment))
    return _longest(plans)


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
    n_ran = int(assessment.confirmation.n_ran[rank])

    def seeds(rival: int, gap: float, n_rivals: int) -> int | None:
        shared = seeds_for_power(gap, float(bounds.sd[rank, rival]), n_rivals, rule.bound_confidence)
        # Seeds on which either of the two collapsed or failed do not count; expect the same share again.
        return None if shared is None else math.ceil(shared * n_ran / int(bounds.n_seeds[rank, rival]))

    gaps = {j: rule.tolerance + float(bounds.mean[rank, j]) for j in rivals}
    if min(gaps.values()) > 0:
        return _longest([seeds(j, gap, len(rivals)) for j, gap in gaps.items()])
    return seeds(start, -gaps[start], 1) if rank != start and gaps[start] < 0 else None


def _longest(plans: list[int | None]) -> int | None:
    """The plan that satisfies all; None when one of them cannot be satisfied within `MOST_SEEDS`."""
    known = [plan for plan in plans if plan is not None and plan <= MOST_SEEDS]
    return max(known) if len(known) == len(plans) else None
