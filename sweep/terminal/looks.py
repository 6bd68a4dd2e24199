"""Where a confirmation stands after another seed, a line for each rank."""

from __future__ import annotations

import numpy as np

from sweep.confirmation.seed_by_seed import Progress
from sweep.statistics.assessment import Assessment
from sweep.statistics.collapse_looks import first_look
from sweep.statistics.decision import clears, falls_short, scores_fall_short
from sweep.statistics.guards import guards_broken
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import t_statistics


def look_lines(progress: Progress, rule: Rule) -> str:
    """What every rank has shown so far, and what it still has to show; empty before the first look."""
    assessment, n_seeds = progress.assessment, len(progress.seeds)
    if assessment is None or not np.isfinite(rule.critical[n_seeds]):
        return ""
    ranks = [frozen.r for frozen in assessment.confirmation.frozen]
    lines = [f"  r={r:<4} {_stands(assessment, rule, i, goes_on=r in progress.needed)}" for i, r in enumerate(ranks)]
    ending = [progress.ending(rule)] if progress.stopped else []
    return "\n".join([f"after {n_seeds} seeds:", *lines, *ending])


def _stands(assessment: Assessment, rule: Rule, i: int, *, goes_on: bool) -> str:
    """One rank: what it has passed, or the test that it is furthest from passing."""
    evidence, decision, start = assessment.evidence, assessment.decision, assessment.start
    if not decision.judged[i]:
        return "collapses too often, and is out"
    if falls_short(evidence, decision.start, rule)[i]:
        return f"shown to be {_short_of(assessment, rule, i)}, against r={assessment.r(start)}"
    still = "; goes on, others are held against it" if goes_on else ""
    if decision.passes[i]:
        return f"passes{still}"
    if not decision.score_passes[i]:
        return _furthest(assessment, rule, i)
    if guards := assessment.guards_open(i):
        return f"is good enough, and not yet shown to be in {_names(rule, guards)}"
    needed = first_look(rule.cap or 0, rule.collapse_limit, rule.confidence)
    return f"is good enough; {needed} seeds without a collapse, or the last one, show that it rarely collapses"


def _short_of(assessment: Assessment, rule: Rule, i: int) -> str:
    start, evidence = assessment.decision.start, assessment.evidence
    if scores_fall_short(evidence, start, rule)[i]:
        return "too low"
    return f"worse in {_names(rule, np.flatnonzero(guards_broken(evidence.guards, rule.guards, start)[:, i]).tolist())}"


def _names(rule: Rule, guards: list[int]) -> str:
    return " and ".join(rule.guards[i].name for i in guards)


def _furthest(assessment: Assessment, rule: Rule, i: int) -> str:
    bounds, n_ranks = assessment.evidence.bounds, len(assessment.confirmation.frozen)
    passed, reached = clears(assessment.evidence, rule)[i], t_statistics(bounds, rule)[i]
    against = [j for j in range(n_ranks) if not passed[j] and (assessment.decision.judged[j] or j == i)]
    asked = np.array(rule.critical)[bounds.n_seeds[i]]
    j = min(against, key=lambda j: float(np.nan_to_num(reached[j] - asked[j], nan=-np.inf)))
    whom = "for a gain of its own" if j == i else f"against r={assessment.r(j)}"
    if not np.isfinite(reached[j]) or not np.isfinite(asked[j]):
        return f"has too few seeds yet, {whom}"
    return f"t = {reached[j]:.1f} {whom}, passes above {asked[j]:.1f}"
