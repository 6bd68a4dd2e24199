"""The verdict: the smallest rank as good as the best one, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sweep.statistics.assessment import Assessment, Outcome, assess
from sweep.statistics.collapse import collapse_bounds
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.paired import mean_interval
from sweep.statistics.rule import Rule
from sweep.statistics.settling import seeds_to_settle
from sweep.statistics.smoothing import FrozenConfiguration
from sweep.statistics.wording import NOTHING_TUNED, count_collapses, explain


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardSummary:
    """What confirmation says about one rank and one guard; None stands for unknown."""

    measure: str
    mean: float | None
    """Over the seeds whose score counts."""
    start: int | None
    """The rank, by its r, that it is held against: the one that the search favours."""
    worse_by: float
    """How much worse it may be."""
    bound: float | None
    """One-sided lower bound of how much better it is than the start; has to exceed -worse_by."""
    passes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSummary:
    """What confirmation says about one rank; None stands for unknown: too few seeds, or no rival."""

    r: int
    n_seeds: int = 0
    """Seeds whose score counts: finished and not collapsed."""
    mean: float | None = None
    """Mean score over those seeds: given that training does not collapse."""
    gain: float | None = None
    """Mean of the score less the base policy's, over those seeds; None where that was not scored under each."""
    gain_lower: float | None = None
    """One-sided lower bound on the gain; has to exceed 0."""
    kept: float | None = None
    """The gain as a share of the largest gain of a judged rank; None where there is none above 0."""
    lower: float | None = None
    """Two-sided t interval of the mean, for display: ranks are compared by pairs, not by these."""
    upper: float | None = None
    collapsed: int = 0
    """Seeds that collapsed; not among `n_seeds`."""
    collapse_upper: float = 1.0
    """Exact one-sided upper bound on the collapse rate; 1 without any seed."""
    worst_rival: int | None = None
    """The judged rank, by its r, against which this one has the lowest bound."""
    bound_against_worst_rival: float | None = None
    """Paired one-sided lower bound of the mean gain minus `keep` times that rival's, which has to exceed 0; with a
    tolerance, of the mean score minus that rival's, which has to exceed -tolerance."""
    guards: tuple[GuardSummary, ...] = ()
    """In the order in which they are declared."""
    passes: bool = False
    """The rank's own test. The answer is the last that passes on the way down, not any that does."""
    judged: bool = False
    why_not_judged: str = ""
    """Empty for a judged rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer and what it rests on. Plain values only, so that `dataclasses.asdict` is ready for JSON."""

    outcome: Outcome
    r: int | None
    """The smallest rank shown to be as good as the best; None when undecided."""
    alpha: float | None
    learning_rate: float | None
    confidence: float
    keep: float | None
    """Declared share of the best rank's gain; None where a tolerance was declared."""
    tolerance: float | None
    """Declared distance from the best rank; None where a share was declared."""
    collapse_limit: float
    base: float | None
    """Mean score of the base policy over the seeds; None where it was not scored under each."""
    reason: str
    """One plain sentence."""
    per_rank: tuple[RankSummary, ...]
    """By ascending r, ranks that are not judged included."""
    seeds_needed: int | None
    """Total seeds per rank that would likely settle what is open; None when nothing is open, or when more
    seeds are not the remedy."""

    @property
    def answer(self) -> str:
        """In a word or two, for a headline."""
        if self.r is not None:
            return f"r = {self.r}"
        return "nothing learned" if self.outcome is Outcome.NOTHING_LEARNED else "undecided"


def judge(confirmation: Confirmation, rule: Rule) -> Verdict:
    """Apply the declared rule to confirmation trials.

    Args:
        confirmation: every judged rank on the same seeds, none of which chose the configurations.
        rule: declared before these trials ran.
    """
    per_rank = [RankSummary(r=rank.r, why_not_judged=rank.reason) for rank in confirmation.untuned]
    if not confirmation.frozen:
        return _verdict(confirmation, rule, Outcome.UNDECIDED, None, NOTHING_TUNED, per_rank, None)
    assessment = assess(confirmation, rule)
    seeds_needed = seeds_to_settle(assessment)
    per_rank += [_summarize(assessment, position) for position in range(len(confirmation.frozen))]
    found = confirmation.frozen[assessment.smallest] if assessment.smallest >= 0 else None
    reason = explain(assessment, seeds_needed)
    return _verdict(confirmation, rule, assessment.outcome, found, reason, per_rank, seeds_needed)


def _verdict(
    confirmation: Confirmation,
    rule: Rule,
    outcome: Outcome,
    found: FrozenConfiguration | None,
    reason: str,
    per_rank: list[RankSummary],
    seeds_needed: int | None,
) -> Verdict:
    return Verdict(
        outcome=outcome,
        r=found.r if found else None,
        alpha=found.alpha if found else None,
        learning_rate=found.learning_rate if found else None,
        confidence=rule.confidence,
        keep=rule.keep,
        tolerance=rule.tolerance,
        collapse_limit=rule.collapse_limit,
        base=_mean_base(confirmation),
        reason=reason,
        per_rank=tuple(sorted(per_rank, key=lambda summary: summary.r)),
        seeds_needed=seeds_needed,
    )


def _summarize(assessment: Assessment, position: int) -> RankSummary:
    confirmation, decision, rule = assessment.confirmation, assessment.decision, assessment.rule
    scores = confirmation.scores[position][confirmation.alive[position]]
    lower, upper = mean_interval(scores.tolist(), rule.confidence)
    n_collapsed, n_ran = int(confirmation.n_collapsed[position]), int(confirmation.n_ran[position])
    judged = bool(decision.judged[position])
    gain = _gain(assessment, position)
    best = max((_gain(assessment, int(i)) or 0.0 for i in np.flatnonzero(decision.judged)), default=0.0)
    rival = assessment.worst_rival(position) if judged else -1
    bound = float(assessment.evidence.bounds.lower[position, rival]) if rival >= 0 else math.nan
    return RankSummary(
        r=assessment.r(position),
        n_seeds=len(scores),
        mean=float(scores.mean()) if len(scores) else None,
        gain=gain,
        gain_lower=_known(float(assessment.evidence.bounds.lower[position, position])) if rule.gains else None,
        kept=gain / best if gain is not None and best > assessment.evidence.rounding else None,
        lower=_known(lower),
        upper=_known(upper),
        collapsed=n_collapsed,
        collapse_upper=collapse_bounds(n_collapsed, n_ran, rule.bound_confidence)[1],
        worst_rival=assessment.r(rival) if rival >= 0 else None,
        bound_against_worst_rival=_known(bound),
        guards=tuple(_summarize_guard(assessment, position, i) for i in range(len(rule.guards))),
        passes=bool(decision.passes[position]),
        judged=judged,
        why_not_judged="" if judged else count_collapses(confirmation, position),
    )


def _summarize_guard(assessment: Assessment, position: int, i: int) -> GuardSummary:
    guard, start = assessment.rule.guards[i], assessment.start
    measured = assessment.confirmation.guards[i][position][assessment.confirmation.alive[position]]
    measured = measured[np.isfinite(measured)]
    bound = float(assessment.evidence.guards[i].lower[position, start]) if start >= 0 else math.nan
    return GuardSummary(
        measure=guard.measure,
        mean=float(measured.mean()) if len(measured) else None,
        start=assessment.r(start) if start >= 0 else None,
        worse_by=guard.worse_by,
        bound=None if position == start else _known(bound),
        passes=bool(assessment.decision.guards_pass[i, position]),
    )


def _gain(assessment: Assessment, position: int) -> float | None:
    """A rank's mean gain, where gains are looked at and it has a seed."""
    confirmation = assessment.confirmation
    gains = confirmation.gains[position][confirmation.alive[position]]
    return float(gains.mean()) if assessment.rule.gains and len(gains) else None


def _mean_base(confirmation: Confirmation) -> float | None:
    base = confirmation.base
    return float(base[np.isfinite(base)].mean()) if base is not None and np.isfinite(base).any() else None


def _known(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None
