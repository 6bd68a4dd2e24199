"""Where a confirmation stands that adds seeds one by one: whether it goes on, with which ranks, and why it stops.

It stops where the verdict is settled: the answer is the smallest rank, or the next one down is shown worse. It gives up
where the rank on which the verdict hangs is unlikely to pass, or to be shown worse, by the last seed. To give up early
can only cost an answer, never add a wrong one, so the boundaries do not count on it (it is not binding).

A rank goes on as long as the verdict needs it: while it may still be named, or while a rank that may be named has not
yet passed against it. What has passed, or was shown worse, stays so, so nothing is decided by when a rank stopped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from sweep.statistics.decision import Decision, Evidence, clears, falls_short
from sweep.statistics.paired import BoolArray, FloatArray, IntArray, PairedBounds
from sweep.statistics.rule import Rule

UNLIKELY = 0.1
"""The chance of being settled by the last seed below which it is given up."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Standing:
    """After some number of seeds."""

    settled: BoolArray
    """Shape (...): more seeds cannot change the answer, or the next rank down is shown worse."""
    chance: FloatArray
    """Shape (...): of the rank on which the verdict hangs to pass, or to be shown worse, by the last seed."""
    needed: BoolArray
    """Shape (..., n_ranks): ranks that more seeds would have to run."""

    def goes_on(self, n_seeds: int, rule: Rule) -> BoolArray:
        """Shape (...): whether another seed is worth running after so many."""
        enough = n_seeds >= (rule.cap or 0)
        unlikely = (self.chance < UNLIKELY) & (n_seeds >= rule.first_look)
        return np.asarray(~self.settled & ~unlikely & (not enough))


def stand(evidence: Evidence, decision: Decision, rule: Rule) -> Standing:
    """Where a decision stands.

    Args:
        evidence: after the seeds so far, from `weigh`.
        decision: from it.
        rule: one with a cap.
    """
    n_ranks = decision.judged.shape[-1]
    ladder, start = np.arange(n_ranks), decision.start[..., None]
    found = (decision.smallest >= 0)[..., None]
    settled = np.where(found[..., 0], decision.shown_worse | (decision.smallest == 0), ~decision.judged.any(axis=-1))
    short = falls_short(evidence, decision.start, rule)
    below = np.where(found, ladder < decision.smallest[..., None], ladder <= start)
    candidate = decision.judged & below & ~short & ~settled[..., None]
    # The diagonal is a rank's own gain, which needs its own trials.
    rival = decision.judged & (candidate[..., :, None] & ~clears(evidence, rule)).any(axis=-2)
    needed = candidate | rival | ((ladder == start) & candidate.any(axis=-1, keepdims=True))
    return Standing(settled=settled, chance=_chance(evidence, decision, rule), needed=needed)


def _chance(evidence: Evidence, decision: Decision, rule: Rule) -> FloatArray:
    """Shape (...): that the open rank passes, or is shown worse than the start, by the last seed; at most 1.

    Predictive: the mean of the seeds to come is drawn around that of those so far, with both their errors.
    """
    n_ranks = decision.judged.shape[-1]
    thresholds = rule.thresholds(n_ranks)
    rank = np.where(decision.smallest >= 0, decision.next_down, decision.start)
    passes = np.where(clears(evidence, rule), 1.0, _beyond(evidence.bounds, thresholds, rule, sign=1.0))
    rows = np.take_along_axis(passes, rank[..., None, None], axis=-2)[..., 0, :]
    asked = decision.judged | (np.arange(n_ranks) == rank[..., None])
    passing = np.where(asked, rows, 1.0).min(axis=-1)
    worse = _beyond(evidence.bounds, np.full((n_ranks, n_ranks), -rule.margin), rule, sign=-1.0)
    shown = _one_pair(worse, rank, decision.start)
    for i, (guard, bounds) in enumerate(zip(rule.guards, evidence.guards, strict=True)):
        allowed = np.full((n_ranks, n_ranks), -guard.worse_by)
        kept = _one_pair(_beyond(bounds, allowed, rule, sign=1.0), rank, decision.start)
        has_passed = np.take_along_axis(decision.guards_pass[i], rank[..., None], axis=-1)[..., 0]
        passing = np.minimum(passing, np.where(has_passed, 1.0, kept))
        shown = np.maximum(shown, _one_pair(_beyond(bounds, allowed, rule, sign=-1.0), rank, decision.start))
    return np.asarray(np.minimum(1.0, passing + np.where(rank == decision.start, 0.0, shown)))


def _one_pair(contrasts: FloatArray, rank: IntArray, rival: IntArray) -> FloatArray:
    """Shape (...): the entries of one pair of ranks."""
    row = np.take_along_axis(contrasts, rank[..., None, None], axis=-2)
    return np.take_along_axis(row, rival[..., None, None], axis=-1)[..., 0, 0]


def t_statistics(bounds: PairedBounds, rule: Rule) -> FloatArray:
    """Shape (..., n_ranks, n_ranks): t of each contrast against its threshold; not finite without a second pair."""
    with np.errstate(invalid="ignore", divide="ignore"):
        spare = bounds.mean - rule.thresholds(bounds.mean.shape[-1])
        return np.asarray(spare * np.sqrt(bounds.n_seeds) / bounds.sd)


def chance_of_gain(evidence: Evidence, rule: Rule) -> FloatArray:
    """Shape (..., n_ranks): of each rank to be shown to have learned by the last seed."""
    thresholds = rule.thresholds(evidence.learned.shape[-1])
    return np.diagonal(_beyond(evidence.bounds, thresholds, rule, sign=1.0), axis1=-2, axis2=-1)


def likely_gain(evidence: Evidence, rule: Rule) -> FloatArray:
    """Shape (..., n_ranks): the most that each rank has gained, by an ordinary t bound on the seeds so far.

    The bounds of the evidence hold at every look at once and are far too wide for this, early: nothing is decided by it
    but how an end without an answer is worded.
    """
    bounds = evidence.bounds
    n, mean, sd = (np.diagonal(each, axis1=-2, axis2=-1) for each in (bounds.n_seeds, bounds.mean, bounds.sd))
    with np.errstate(invalid="ignore", divide="ignore"):
        upper = mean + special.stdtrit(np.maximum(n - 1, 1), rule.confidence) * sd / np.sqrt(n)
    return np.where(n > 1, upper, np.inf)


def _beyond(bounds: PairedBounds, thresholds: FloatArray, rule: Rule, *, sign: float) -> FloatArray:
    """For each contrast, the chance that its bound lies beyond the threshold after the last seed."""
    cap = len(rule.critical) - 1
    n = np.minimum(bounds.n_seeds, cap)
    left = cap - n
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = rule.critical[-1] * bounds.sd / np.sqrt(cap)
        spare = sign * (bounds.mean - thresholds) - needed
        error = bounds.sd * np.sqrt(left / (cap * n))
        chance = special.stdtr(np.maximum(n - 1, 1), spare / error)
    # Without a second pair nothing is known, so everything is possible.
    return np.where(n < 2, 1.0, np.where(error > 0, chance, spare > 0))
