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

A rank below the start has to pass the declared `guards` too, held against the start: a fourth part of the test.

When the step-down stops, the judged rank below the answer is *shown worse* if the upper bound of its contrast with
the start falls short of what the rule asks for: the start is no better than the best, so whatever falls short of the
start falls short of the best. So it is where the rank is shown to be worse than the start on one of the guards: each of
these claims may err as declared.

Everything takes leading axes, so that one implementation serves a verdict and thousands of simulated ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sweep.statistics.collapse import judge_collapses
from sweep.statistics.collapse_looks import judge_collapses_twice
from sweep.statistics.guards import Guard, guards_broken, guards_kept
from sweep.statistics.paired import (
    BoolArray,
    FloatArray,
    IntArray,
    PairedBounds,
    bound_contrasts,
    bound_contrasts_repeatedly,
)
from sweep.statistics.rule import Rule


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
    guards: tuple[PairedBounds, ...] = ()
    """Of each guard: plain differences of its measure, turned so that more is better."""
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
    guards_pass: BoolArray
    """Shape (n_guards, ..., n_ranks): the parts that look at guards."""
    judged: BoolArray
    """Shape (..., n_ranks): still on the ladder."""


def weigh(
    gains: ArrayLike,
    collapsed: ArrayLike,
    rule: Rule,
    *,
    rounding: float = 0.0,
    guards: Sequence[FloatArray] = (),
    prompts: int | None = None,
) -> Evidence:
    """Turn confirmation trials into bounds.

    Args:
        gains: shape (..., n_ranks, n_seeds), held-out score less the base policy's on that seed, or plain scores
            for a rule that does not look at gains; nan where no trial finished; anything where it collapsed.
        collapsed: same shape, bool.
        rule: as declared.
        rounding: what a gain may be off by where nothing was gained: rewards near 100 differ in the last places.
        guards: of each of the rule's guards its measure, as `gains`; nan where it is not known.
        prompts: held-out prompts that a measure is the mean over.
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
    guarded = tuple(
        _weigh_guard(guard, own, alive, rule, prompts) for guard, own in zip(rule.guards, guards, strict=True)
    )
    return Evidence(bounds=bounds, learned=learned, within=within, above=above, guards=guarded, rounding=rounding)


def _weigh_guard(guard: Guard, measured: FloatArray, alive: BoolArray, rule: Rule, prompts: int | None) -> PairedBounds:
    turned, usable = guard.sign * measured, alive & np.isfinite(measured)
    least = guard.least_sd(prompts, np.where(usable, measured, np.nan))
    if rule.cap is None:
        return bound_contrasts(turned, usable, 1.0, rule.bound_confidence, least_sd=least)
    return bound_contrasts_repeatedly(turned, usable, 1.0, rule.critical, least_sd=least)


def clears(evidence: Evidence, rule: Rule) -> BoolArray:
    """Shape (..., n_ranks, n_ranks): the contrasts that have passed; on the diagonal each rank's own gain."""
    thresholds = rule.thresholds(evidence.learned.shape[-1])
    return np.asarray(evidence.bounds.lower > thresholds + evidence.rounding)


def falls_short(evidence: Evidence, start: IntArray, rule: Rule) -> BoolArray:
    """Shape (..., n_ranks): ranks below the start that are shown unacceptable, held against it."""
    short = scores_fall_short(evidence, start, rule)
    if rule.guards:
        below = np.arange(short.shape[-1]) < start[..., None]
        short |= below & guards_broken(evidence.guards, rule.guards, start).any(axis=0)
    return short


def scores_fall_short(evidence: Evidence, start: IntArray, rule: Rule) -> BoolArray:
    """Shape (..., n_ranks): ranks below the start that are shown to score less than is asked, held against it."""
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
    ladder = np.arange(judged.shape[-1])
    # Reversed: argmax takes the first of equals, and the larger rank is to win.
    start = ladder[-1] - np.where(judged, smoothed, -np.inf)[..., ::-1].argmax(axis=-1)
    guards_pass = np.ones((0, *judged.shape), dtype=np.bool_)
    if rule.guards:
        guards_pass = guards_kept(evidence.guards, rule.guards, start)
    passes = score_passes & evidence.within & guards_pass.all(axis=0)
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
        guards_pass=guards_pass,
        judged=judged,
    )
