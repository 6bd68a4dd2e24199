"""Collapse where seeds are added one by one: looked at twice, early and at the end.

The early look asks for a rank without any collapse; the last one allows some. At the limit, the chance that a rank is
called within it is exactly that of no collapse at the first look, or of so few at the last, and that is held to the
declared error. A lower rate only makes either more likely, so the limit is where the error is largest.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import special

from sweep.statistics.collapse import judge_collapses
from sweep.statistics.paired import BoolArray


@functools.cache
def first_look(cap: int, limit: float, confidence: float) -> int:
    """Seeds after which a rank without any collapse is within the limit: the fewest that cost the last look nothing.

    Args:
        cap: seeds in all, >= 0.
        limit: highest acceptable collapse rate, in (0, 1]; 1 switches the endpoint off.
        confidence: of "within", in (0, 1).
    """
    if limit >= 1.0:
        return 0
    alone = max((c for c in range(cap) if special.bdtr(c, cap, limit) <= 1 - confidence), default=-1)
    return next((n for n in range(1, cap) if collapses_allowed(cap, n, limit, confidence) == alone >= 0), cap)


@functools.cache
def collapses_allowed(n_seeds: int, first: int, limit: float, confidence: float) -> int:
    """With how many collapses a rank is within the limit at the last look; -1 where no number shows it.

    Args:
        n_seeds: that the rank has at the end.
        first: seeds of the first look.
        limit: in (0, 1].
        confidence: over both looks.
    """
    if limit >= 1.0:
        return n_seeds
    allowed = -1
    while allowed < n_seeds and _error(n_seeds, first, allowed + 1, limit) <= 1 - confidence:
        allowed += 1
    return allowed


def _error(n_seeds: int, first: int, allowed: int, limit: float) -> float:
    """The chance that a rank at the limit passes one of the two looks."""
    if n_seeds <= first:
        return float(special.bdtr(allowed, n_seeds, limit))
    # Those that had a collapse early and few in all are what the last look adds.
    early = np.arange(1, min(first, allowed) + 1)
    chance = special.binom(first, early) * limit**early * (1 - limit) ** (first - early)
    late = chance * special.bdtr(allowed - early, n_seeds - first, limit)
    return float((1 - limit) ** first + late.sum())


def judge_collapses_twice(
    collapsed: BoolArray, ran: BoolArray, limit: float, confidence: float, *, cap: int
) -> tuple[BoolArray, BoolArray]:
    """`judge_collapses` where seeds are added one by one.

    Args:
        collapsed: shape (..., n_seeds), in the order of seeds.
        ran: same shape: collapsed, or with a score. What failed has not run.
        limit: in (0, 1].
        confidence: of either statement, over both looks.
        cap: seeds at most: when so many are in, the last look is due.

    Returns:
        (within, above), bool, shape (...).
    """
    first, half = first_look(cap, limit, confidence), (1 + confidence) / 2
    early = ran & (np.cumsum(ran, axis=-1) <= first)
    n_early, collapsed_early = early.sum(axis=-1, dtype=np.int64), (early & collapsed).sum(axis=-1, dtype=np.int64)
    due = n_early == first
    within = due & (collapsed_early == 0)
    above = due & judge_collapses(collapsed_early, n_early, limit, half)[1]
    if collapsed.shape[-1] >= cap:
        n_ran, n_collapsed = ran.sum(axis=-1, dtype=np.int64), (ran & collapsed).sum(axis=-1, dtype=np.int64)
        # A rank that misses seeds has fewer to show it with, and its own number of collapses.
        allowed = np.array([collapses_allowed(n, first, limit, confidence) for n in range(cap + 1)])
        within |= n_collapsed <= allowed[np.minimum(n_ran, cap)]
        above |= judge_collapses(n_collapsed, n_ran, limit, half)[1]
    return within & ~above, above
