"""Collapse as an endpoint of its own: how often training at a rank falls to the floor.

Averages hide collapse: a rank that collapses in one seed of ten looks fine in most small samples. So the
number of collapsed seeds is judged by itself, with the exact binomial bounds of Clopper and Pearson (1934)
against a limit that is declared before the run.

The rule has three answers, not two:
    within  the upper bound is at or below the limit: shown to be acceptable;
    above   the lower bound is above the limit: shown to be unacceptable;
    open    neither: too few seeds to tell.

A rank can only be recommended when it is *within*. Asking for less, namely that a rank is not shown to be
*above*, would let a rank that truly collapses in 30 % of seeds through most of the time at ten seeds, with
nothing but a footnote. And it needs no correction: "too low a score or too frequent a collapse" is one null
hypothesis, rejected only when both tests reject.

The price is that the limit cannot be stricter than the seeds can show. Without any collapse, n seeds show
a rate of at most 1 - (1 - confidence) ** (1 / n): at 95 % that is .45 for 5 seeds, .26 for 10, .14 for 20
and .10 for 29. A limit of .3 is met by nine clean seeds, so a run of ten survives one lost trial. It is a
guard against configurations that collapse often, not a proof of stability, and a report should print the
bound itself beside the limit. `fewest_seeds` tells before a run whether a limit is within reach.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from scipy import special

from sweep.statistics.paired import BoolArray, IntArray


class CollapseStatus(StrEnum):
    """What the seeds show about a rank's collapse rate."""

    WITHIN = "within"
    OPEN = "open"
    ABOVE = "above"


def collapse_bounds(n_collapsed: int, n_seeds: int, confidence: float) -> tuple[float, float]:
    """Exact one-sided bounds on the collapse rate, each at `confidence`.

    Args:
        n_collapsed: seeds that collapsed, in [0, n_seeds].
        n_seeds: seeds that ran, collapsed or not.
        confidence: in (0, 1).

    Returns:
        (lower, upper), each in [0, 1]; (0, 1) without any seed.
    """
    if n_seeds == 0:
        return 0.0, 1.0
    k, n = n_collapsed, n_seeds
    # At either end the beta distribution has a shape of 0, for which scipy has no answer.
    lower = 0.0 if k == 0 else float(special.betaincinv(k, n - k + 1, 1 - confidence))
    upper = 1.0 if k == n else float(special.betaincinv(k + 1, n - k, confidence))
    return lower, upper


def judge_collapse(n_collapsed: int, n_seeds: int, limit: float, confidence: float) -> CollapseStatus:
    """Hold one rank's collapsed seeds against the declared limit.

    Args:
        n_collapsed: seeds that collapsed, in [0, n_seeds].
        n_seeds: seeds that ran, collapsed or not.
        limit: highest acceptable collapse rate, in (0, 1]; 1 switches the endpoint off.
        confidence: of either statement, in (0, 1).
    """
    lower, upper = collapse_bounds(n_collapsed, n_seeds, confidence)
    if upper <= limit:
        return CollapseStatus.WITHIN
    return CollapseStatus.ABOVE if lower > limit else CollapseStatus.OPEN


def judge_collapses(
    n_collapsed: IntArray, n_seeds: IntArray, limit: float, confidence: float
) -> tuple[BoolArray, BoolArray]:
    """`judge_collapse` for arrays of counts.

    Args:
        n_collapsed: any shape.
        n_seeds: same shape.
        limit: in (0, 1].
        confidence: in (0, 1).

    Returns:
        (within, above), bool, same shape; both False where the count leaves it open.
    """
    # Thousands of simulated ranks share a handful of counts, and each exact bound takes a root search.
    pairs, inverse = np.unique(np.stack([n_collapsed, n_seeds], axis=-1).reshape(-1, 2), axis=0, return_inverse=True)
    statuses = np.array([judge_collapse(int(k), int(n), limit, confidence) for k, n in pairs])
    per_rank = statuses[inverse.reshape(-1)].reshape(np.shape(n_collapsed))
    return per_rank == CollapseStatus.WITHIN, per_rank == CollapseStatus.ABOVE


def fewest_seeds(limit: float, confidence: float) -> int:
    """Seeds that a rank without a single collapse needs to be shown within the limit.

    The smallest n with `(1 - limit) ** n <= 1 - confidence`: the Clopper-Pearson bound at zero collapses.

    Args:
        limit: highest acceptable collapse rate, in (0, 1].
        confidence: in (0, 1).
    """
    if limit >= 1.0:
        return 0
    # The logarithms only get close; the last seed is decided by the rule itself.
    n = max(0, math.floor(math.log(1 - confidence) / math.log1p(-limit)) - 1)
    while judge_collapse(0, n, limit, confidence) is not CollapseStatus.WITHIN:
        n += 1
    return n


def seeds_to_settle_collapse(
    n_collapsed: int, n_seeds: int, limit: float, confidence: float, most_seeds: int
) -> int | None:
    """Seeds after which the endpoint is no longer open, if collapses go on at the rate seen so far.

    Args:
        n_collapsed: seeds that collapsed so far, in [0, n_seeds].
        n_seeds: seeds that ran so far.
        limit: in (0, 1].
        confidence: in (0, 1).
        most_seeds: where to stop looking.

    Returns:
        A total number of seeds, at least `n_seeds`; None when `most_seeds` would not do.
    """
    n = np.arange(n_seeds, most_seeds + 1)
    # Collapses that have happened stay; new ones are counted once the rate predicts a whole one.
    expected = np.maximum(n_collapsed, n * n_collapsed // max(n_seeds, 1))
    # The exact bounds invert these tail probabilities, which come for all n at once.
    within = (special.bdtr(expected, n, limit) <= 1 - confidence) | (limit >= 1)
    above = np.where(expected > 0, special.bdtrc(expected - 1, n, limit), 1.0) < 1 - confidence
    settled = np.flatnonzero(within | above)
    return int(n[settled[0]]) if settled.size else None
