"""The rule that decides: a step-down over ranks, each tested against every other.

What counts is a rank's *gain*: its score less that of the base policy, sampled with the same seed. A rank *passes*
when three things are shown, each at the confidence of the rule:
    it has learned: its own mean gain is above 0;
    it is as good as every other judged rank. A rule says in one of two ways what that means: with `keep`, its mean
    gain is more than that share of the other's; with `tolerance`, it is less than so much below the other's;
    its collapse rate is within the limit (`collapse`).
The first two are paired one-sided t bounds on contrasts that are linear in the scores of a seed. All three are one
null hypothesis, "this rank is too small, or learns nothing, or collapses too often", which is rejected only when
every part is (an intersection-union test: Berger, Technometrics 24, 1982). Each part at its full level keeps the
whole at that level: no correction is needed.

With `keep` nothing depends on the units of the reward, nor on where its zero is: under reward -> a * reward + c with
a > 0, gains and their bounds are multiplied by a. A `tolerance` is in units of the reward.

From the rank with the best smoothed search estimate, step down the ladder while ranks pass; the last that
passed is the answer. The order comes from search trials, so it is fixed before any confirmation trial is
seen, and tests in a fixed order that stop at the first failure need no correction either (Maurer, Hothorn
and Lehmacher, 1995; Hsu and Berger, JASA 94, 1999).

A rank whose collapse rate is *shown above* the limit leaves the ladder: it is no rival, no start and no
step. So the scores are compared among the ranks that remain, and a verdict has to name those that left.
This costs next to nothing in error: a rank at the limit is rarely shown within it and rarely shown above.

When the step-down stops, the judged rank below the answer is *shown worse* if the upper bound of its contrast with
the start falls short of what the rule asks for: the start is no better than the best, so whatever falls short of the
start falls short of the best.

Everything takes leading axes, so that one implementation serves a verdict and thousands of simulated ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from sweep.statistics.collapse import judge_collapses
from sweep.statistics.collapse_looks import judge_collapses_twice
from sweep.statistics.paired import (
    BoolArray,
    FloatArray,
    IntArray,
    PairedBounds,
    bound_contrasts,
    bound_contrasts_repeatedly,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What is declared before confirmation: exactly one of `keep` and `tolerance`, and the rest."""

    keep: float | None = None
    """Share of the best rank's gain that a rank must keep to count as good as the best; in (0, 1)."""
    tolerance: float | None = None
    """How far below the best a mean score may be and still count as good as the best; > 0."""
    confidence: float
    """Of the verdict, in (0, 1)."""
    collapse_limit: float
    """Highest acceptable collapse rate, in (0, 1]; 1 switches the endpoint off."""
    looks: int = 1
    """How many times the trials may be judged while seeds are added, >= 1. Judging, adding seeds and judging
    again gives chance another try: at 95 %, a second look undeclared turns an error of 5 % into 8 %."""
    critical: tuple[float, ...] = ()
    """For a design that adds seeds one by one up to a cap: what a paired t statistic has to exceed after n pairs, by n
    from 0 to the cap (`spending.critical_values`). Empty for one that runs all its seeds."""
    gains: bool = True
    """Whether a rank must be shown to have learned. Without, the base policy is not looked at: the rule of studies
    that did not score it under every seed."""

    def __post_init__(self) -> None:
        if (self.keep is None) == (self.tolerance is None):
            raise ValueError(f"keep={self.keep} and tolerance={self.tolerance}: a rule has exactly one of the two")
        if self.keep is not None and not 0 < self.keep < 1:
            raise ValueError(f"keep={self.keep} must be above 0 and below 1: no number of seeds shows equal gains")
        if self.keep is not None and not self.gains:
            raise ValueError(f"keep={self.keep} is a share of a gain, which takes the base policy's scores")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"tolerance={self.tolerance} must be > 0: no number of seeds shows two ranks to be equal")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence={self.confidence} must be between 0 and 1, for example 0.95")
        if not 0 < self.collapse_limit <= 1:
            raise ValueError(
                f"collapse_limit={self.collapse_limit} must be above 0 and at most 1:"
                " no number of seeds shows that a rank never collapses"
            )
        if self.looks < 1:
            raise ValueError(f"looks={self.looks} must be at least 1")
        if self.critical and self.looks > 1:
            raise ValueError(f"looks={self.looks}: where seeds are added one by one, every seed is a look")

    @property
    def cap(self) -> int | None:
        """Seeds at most, where they are added one by one; None where all are run."""
        return len(self.critical) - 1 if self.critical else None

    @property
    def share(self) -> float:
        """The share of a rival's gain that a rank is held against: all of it, less `margin`, with a tolerance."""
        return 1.0 if self.keep is None else self.keep

    @property
    def margin(self) -> float:
        """How far a rank may fall short of that share, in units of score."""
        return self.tolerance or 0.0

    @property
    def first_look(self) -> int:
        """Seeds before the first look, where every seed from there on is one."""
        return next(n for n, value in enumerate(self.critical) if np.isfinite(value))

    def shares(self, n_ranks: int) -> FloatArray:
        """Shape (n_ranks, n_ranks): what each rank is held against. The diagonal is for a rank's own gain."""
        shares = np.full((n_ranks, n_ranks), self.share)
        np.fill_diagonal(shares, 0.0 if self.gains else 1.0)
        return shares

    def thresholds(self, n_ranks: int) -> FloatArray:
        """Shape (n_ranks, n_ranks): what the lower bound of each contrast has to exceed."""
        thresholds = np.full((n_ranks, n_ranks), -self.margin)
        if self.gains:
            np.fill_diagonal(thresholds, 0.0)
        return thresholds

    @property
    def bound_confidence(self) -> float:
        """Confidence of each bound: the allowed error is shared equally between looks (Bonferroni).

        Where seeds are added one by one, that of the last look by itself: what plans are made with.
        """
        if self.cap is not None:
            return float(special.stdtr(self.cap - 1, self.critical[-1]))
        return 1 - (1 - self.confidence) / self.looks


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What the confirmation seeds show, before any decision; the ladder runs along n_ranks, ascending."""

    bounds: PairedBounds
    """Shape (..., n_ranks, n_ranks): contrasts of gains; on the diagonal each rank's own gain."""
    learned: BoolArray
    """Shape (..., n_ranks): the rank's own gain is shown to be above 0; True where the rule does not ask."""
    within: BoolArray
    """Shape (..., n_ranks): the collapse rate is shown within the limit."""
    above: BoolArray
    """Shape (..., n_ranks): the collapse rate is shown above the limit."""
    rounding: float = 0.0
    """What is no more than this beyond a threshold is not beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """Where the step-down ends; ranks are positions on the ladder, -1 stands for none."""

    start: IntArray
    """Shape (...): best smoothed rank still on the ladder."""
    smallest: IntArray
    """Shape (...): the last rank that passed; -1 when the start itself did not."""
    next_down: IntArray
    """Shape (...): the judged rank at which the step-down stopped; -1 when none is left below."""
    shown_worse: BoolArray
    """Shape (...): a rank was found, and each one below it that could come next is shown unacceptable."""
    passes: BoolArray
    """Shape (..., n_ranks): the rank's own test, whether the step-down reached it or not."""
    score_passes: BoolArray
    """Shape (..., n_ranks): the part of the test that looks at scores."""
    judged: BoolArray
    """Shape (..., n_ranks): still on the ladder."""


def weigh(gains: ArrayLike, collapsed: ArrayLike, rule: Rule, *, rounding: float = 0.0) -> Evidence:
    """Turn confirmation trials into bounds.

    Args:
        gains: shape (..., n_ranks, n_seeds), held-out score less the base policy's on that seed, or plain scores
            for a rule that does not look at gains; nan where no trial finished; anything where it collapsed.
        collapsed: same shape, bool.
        rule: as declared.
        rounding: what a gain may be off by where nothing was gained: rewards near 100 differ in the last places.
    """
    gains = np.asarray(gains, dtype=np.float64)
    collapsed = np.asarray(collapsed, dtype=np.bool_)
    alive = np.isfinite(gains) & ~collapsed
    shares = rule.shares(gains.shape[-2])
    # Trials that failed count neither as collapsed nor as run.
    if rule.cap is None:
        n_collapsed = collapsed.sum(axis=-1, dtype=np.int64)
        n_ran = n_collapsed + alive.sum(axis=-1, dtype=np.int64)
        within, above = judge_collapses(n_collapsed, n_ran, rule.collapse_limit, rule.bound_confidence)
        bounds = bound_contrasts(gains, alive, shares, rule.bound_confidence)
    else:
        ran, limit = alive | collapsed, rule.collapse_limit
        within, above = judge_collapses_twice(collapsed, ran, limit, rule.confidence, cap=rule.cap)
        bounds = bound_contrasts_repeatedly(gains, alive, shares, rule.critical, rounding=rounding)
    own = np.diagonal(bounds.lower, axis1=-2, axis2=-1)
    learned = own > rounding if rule.gains else np.ones(own.shape, dtype=np.bool_)
    return Evidence(bounds=bounds, learned=learned, within=within, above=above, rounding=rounding)


def clears(evidence: Evidence, rule: Rule) -> BoolArray:
    """Shape (..., n_ranks, n_ranks): the contrasts that have passed; on the diagonal each rank's own gain."""
    thresholds = rule.thresholds(evidence.learned.shape[-1])
    return np.asarray(evidence.bounds.lower > thresholds + evidence.rounding)


def falls_short(evidence: Evidence, start: IntArray, rule: Rule) -> BoolArray:
    """Shape (..., n_ranks): ranks below the start that are shown to have less than is asked, held against it."""
    upper = np.take_along_axis(evidence.bounds.upper, start[..., None, None], axis=-1)[..., 0]
    below = np.arange(upper.shape[-1]) < start[..., None]
    return np.asarray(below & (upper < -rule.margin - evidence.rounding))


def step_down(evidence: Evidence, smoothed: ArrayLike, rule: Rule) -> Decision:
    """Walk down the ladder from the best smoothed rank while ranks pass.

    Args:
        evidence: from `weigh`.
        smoothed: shape (..., n_ranks), smoothed search estimates, finite; the larger rank wins a tie,
            since the walk goes on from there to the smaller one.
        rule: as declared.
    """
    judged = ~evidence.above
    # The diagonal stays in: a rank that has too few seeds of its own fails there, rivals or none.
    # A rank that has left the ladder is nobody's rival.
    score_passes = judged & (clears(evidence, rule) | ~judged[..., None, :]).all(axis=-1)
    passes = score_passes & evidence.within

    ladder = np.arange(judged.shape[-1])
    # Reversed: argmax takes the first of equals, and the larger rank is to win.
    start = ladder[-1] - np.where(judged, smoothed, -np.inf)[..., ::-1].argmax(axis=-1)
    reached = ladder <= start[..., None]
    # A rank that has left the ladder, or lies above the start, does not stop the walk.
    unstopped = np.logical_and.accumulate((passes | ~judged | ~reached)[..., ::-1], axis=-1)[..., ::-1]
    accepted = passes & reached & unstopped
    found = accepted.any(axis=-1)
    # argmax gives the first True: the smallest rank, as the ladder ascends.
    smallest = np.where(found, accepted.argmax(axis=-1), -1)

    below = ladder < smallest[..., None]
    candidates = judged & below
    stopped = candidates.any(axis=-1)
    next_down = np.where(stopped, ladder[-1] - candidates[..., ::-1].argmax(axis=-1), -1)
    # Where next_down is -1 this is some entry that nobody reads.
    next_short = np.take_along_axis(falls_short(evidence, start, rule), next_down[..., None], axis=-1)[..., 0]
    # With no judged rank left below the answer, all that are below it were shown to collapse too often.
    shown_worse = np.where(stopped, next_short, below.any(axis=-1))
    return Decision(
        start=start,
        smallest=smallest,
        next_down=next_down,
        shown_worse=np.asarray(shown_worse, dtype=np.bool_),
        passes=passes,
        score_passes=score_passes,
        judged=judged,
    )
