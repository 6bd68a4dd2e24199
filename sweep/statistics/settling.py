"""How many seeds would likely settle a verdict that is still open.

A plan, not a promise: it takes the differences and spreads seen so far for the truth, and the seeds that
bring the customary power for whichever way the rank in question seems to go.
"""

from __future__ import annotations

from sweep.statistics.assessment import Assessment, Outcome
from sweep.statistics.collapse import seeds_to_settle_collapse
from sweep.statistics.outlook import seeds_for_a_gain, seeds_for_contrast, seeds_to_rule_out
from sweep.statistics.power import MOST_SEEDS


def seeds_to_settle(assessment: Assessment) -> int | None:
    """Total seeds per rank after which the open rank has likely passed or been shown worse.

    Where no rank is shown to gain but one may: after which one likely is, or none likely gains what would matter.

    Returns:
        More than the seeds that the open rank has now. None when no rank is open, when there are too few
        seeds to plan from, when `MOST_SEEDS` would not do, or when more seeds are not the remedy: the
        rank that the search favours looks worse than another by more than the rule allows, or nothing was learned.
    """
    if assessment.outcome is Outcome.NOTHING_LEARNED:
        return None
    if assessment.gain_is_open:
        return _seeds_for_gains(assessment)
    rank = assessment.open_rank
    if rank < 0:
        return None
    plans: list[int | None] = [int(assessment.confirmation.n_ran[rank]) + 1]
    if not assessment.evidence.within[rank]:
        plans.append(_seeds_for_collapse(rank, assessment))
    if not assessment.decision.score_passes[rank]:
        plans.append(_seeds_for_score(rank, assessment))
    plans += [_seeds_for_guard(i, rank, assessment) for i in assessment.guards_open(rank)]
    return _longest(plans)


def _seeds_for_gains(assessment: Assessment) -> int | None:
    """Seeds with which some rank is likely shown to gain, or none to gain what would matter."""
    confirmation, evidence, rule = assessment.confirmation, assessment.evidence, assessment.rule
    shown = seeds_for_a_gain(confirmation, evidence, rule, assessment.decision.judged)
    if shown is not None:
        return shown
    return seeds_to_rule_out(assessment.may_gain, confirmation, evidence, rule)


def _seeds_for_collapse(rank: int, assessment: Assessment) -> int | None:
    n_collapsed = int(assessment.confirmation.n_collapsed[rank])
    n_ran = int(assessment.confirmation.n_ran[rank])
    rule = assessment.rule
    return seeds_to_settle_collapse(n_collapsed, n_ran, rule.collapse_limit, rule.bound_confidence, MOST_SEEDS)


def _seeds_for_guard(i: int, rank: int, assessment: Assessment) -> int | None:
    """Seeds to pass a guard or, where that looks out of reach, to be shown worse on it."""
    bounds, start = assessment.evidence.guards[i], assessment.start
    gap = abs(assessment.rule.guards[i].worse_by + float(bounds.mean[rank, start]))
    return seeds_for_contrast(rank, start, gap, assessment.confirmation, bounds, assessment.rule)


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
    confirmation, evidence, rule = assessment.confirmation, assessment.evidence, assessment.rule
    gap = float(evidence.bounds.mean[rank, rival]) + (0.0 if rival == rank else rule.margin)
    return seeds_for_contrast(
        rank,
        rival,
        -gap if worse else gap,
        confirmation,
        evidence.bounds,
        rule,
        n_rivals=n_rivals,
        rounding=evidence.rounding,
    )


def _longest(plans: list[int | None]) -> int | None:
    """The plan that satisfies all; None when one of them cannot be satisfied within `MOST_SEEDS`."""
    known = [plan for plan in plans if plan is not None and plan <= MOST_SEEDS]
    return max(known) if len(known) == len(plans) else None
