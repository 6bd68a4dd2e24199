"""What more seeds would likely show: of one contrast, and of gains where none is shown yet."""

from __future__ import annotations

import math

import numpy as np

from sweep.statistics.confirmation import Confirmation
from sweep.statistics.decision import Evidence
from sweep.statistics.paired import BoolArray, PairedBounds
from sweep.statistics.power import MOST_SEEDS, seeds_for_power
from sweep.statistics.rule import Rule

WORTH_ADDING = 3
"""Where nothing is shown to have learned, how many times the seeds a plan may ask for: chance alone makes some
rank look a little better than the base policy, and a plan for that would chase noise."""
MATTERS = 0.3
"""Standard deviations of the reward: a gain that nobody would want to miss. Losing as much is a collapse."""


def seeds_for_contrast(
    rank: int,
    rival: int,
    gap: float,
    confirmation: Confirmation,
    bounds: PairedBounds,
    rule: Rule,
    *,
    n_rivals: int = 1,
    rounding: float = 0.0,
) -> int | None:
    """Total seeds per rank with which a contrast is likely shown to lie beyond a threshold.

    Args:
        rank: whose contrast it is.
        rival: with whom; the rank itself for its own gain.
        gap: from the threshold to the mean contrast seen so far, positive on the side to be shown.
        confirmation: so far.
        bounds: of the contrasts.
        rule: as declared.
        n_rivals: rivals that are this close.
        rounding: a gap of no more is none.

    Returns:
        None where there are too few seeds to plan from, or `MOST_SEEDS` would not do.
    """
    sd, n_shared = float(bounds.sd[rank, rival]), int(bounds.n_seeds[rank, rival])
    if n_shared < 2 or not gap > rounding:
        return None
    shared = seeds_for_power(gap, sd, n_rivals, rule.bound_confidence)
    # Seeds on which either of the two collapsed or failed do not count; expect the same share again.
    return None if shared is None else math.ceil(shared * int(confirmation.n_ran[rank]) / n_shared)


def _seeds_for_gain(rank: int, gap: float, confirmation: Confirmation, evidence: Evidence, rule: Rule) -> int | None:
    return seeds_for_contrast(rank, rank, gap, confirmation, evidence.bounds, rule, rounding=evidence.rounding)


def seeds_for_a_gain(confirmation: Confirmation, evidence: Evidence, rule: Rule, judged: BoolArray) -> int | None:
    """Seeds with which the rank that looks most like it would be shown to have learned, if they are not many more."""
    plans = []
    for rank in np.flatnonzero(judged).tolist():
        mean, n_ran = float(evidence.bounds.mean[rank, rank]), int(confirmation.n_ran[rank])
        needed = _seeds_for_gain(rank, mean, confirmation, evidence, rule)
        if needed is not None and needed <= WORTH_ADDING * n_ran:
            # More than there are, with which it was not shown.
            plans.append(max(needed, n_ran + 1))
    return min(plans, default=None)


def ranks_that_may_gain(confirmation: Confirmation, evidence: Evidence, judged: BoolArray) -> list[int]:
    """Judged ranks whose interval of gain reaches one that would matter; none where the reward's spread is unknown."""
    if confirmation.spread is None:
        return []
    upper = np.diagonal(evidence.bounds.upper)
    matters = max(MATTERS * confirmation.spread, evidence.rounding)
    return [int(rank) for rank in np.flatnonzero(judged) if upper[rank] > matters]


def seeds_to_rule_out(ranks: list[int], confirmation: Confirmation, evidence: Evidence, rule: Rule) -> int | None:
    """Seeds with which each of these ranks is likely shown to gain, or to gain less than would matter."""
    plans = []
    for rank in ranks:
        mean = float(evidence.bounds.mean[rank, rank])
        gaps = (mean, MATTERS * (confirmation.spread or 0.0) - mean)
        each = [_seeds_for_gain(rank, gap, confirmation, evidence, rule) for gap in gaps]
        likeliest = min((seeds for seeds in each if seeds is not None), default=MOST_SEEDS + 1)
        plans.append(max(likeliest, int(confirmation.n_ran[rank]) + 1))
    longest = max(plans, default=MOST_SEEDS + 1)
    return longest if longest <= MOST_SEEDS else None
