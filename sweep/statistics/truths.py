"""Planted truths: what the ranks are really worth, for simulated confirmation studies.

The scores are like those of the shipped tiny policy: between .4 and .6, with seeds that differ by a
standard deviation of .04.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.statistics.decision import Rule
from sweep.statistics.paired import BoolArray, FloatArray

_ROUNDING = 1e-9
"""Truths that lie on a boundary must count as on it, whatever the last bit of a float says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """True mean score and collapse rate of each rank on a ladder, by ascending rank."""

    name: str
    means: tuple[float, ...]
    """Mean held-out score of a trial that does not collapse."""
    collapse_rates: tuple[float, ...]

    def gaps(self, rule: Rule) -> FloatArray:
        """How far each rank is below the best of those that do not collapse too often; shape (n_ranks,)."""
        means, stable = np.array(self.means), np.array(self.collapse_rates) < rule.collapse_limit - _ROUNDING
        return np.asarray(means[stable].max() - means if stable.any() else np.zeros(len(means)))

    def wrong_to_declare(self, rule: Rule) -> BoolArray:
        """Ranks that are too small, or that collapse too often; being exactly at a boundary is wrong too."""
        rates = np.array(self.collapse_rates)
        return (self.gaps(rule) >= rule.tolerance - _ROUNDING) | (rates >= rule.collapse_limit - _ROUNDING)

    def wrong_to_dismiss(self, rule: Rule) -> BoolArray:
        """Ranks that are not worse by *more* than the tolerance and do not collapse above the limit."""
        rates = np.array(self.collapse_rates)
        return (self.gaps(rule) <= rule.tolerance + _ROUNDING) & (rates <= rule.collapse_limit + _ROUNDING)


def planted_truths(rule: Rule) -> tuple[Truth, ...]:
    """Ladders on which a rule for choosing a rank should be tried.

    Args:
        rule: its tolerance and collapse limit are where the boundary truths are planted: the hardest cases,
            and the ones at which the promised error rate is reached.
    """
    best, limit = 0.60, rule.collapse_limit
    edge = best - rule.tolerance
    never = (0.0, 0.0, 0.0, 0.0)

    def truth(name: str, *means: float, collapse: tuple[float, ...] = never) -> Truth:
        return Truth(name=name, means=means, collapse_rates=collapse[: len(means)])

    return (
        truth("flat", best, best, best, best),
        truth("rising", 0.44, 0.54, 0.60, 0.59),
        truth("peaked in the middle", 0.47, 0.54, 0.60, 0.50),
        truth("boundary, two ranks", edge, best),
        truth("boundary, largest is best", edge, edge, edge, best),
        truth("boundary, one step down", edge, edge, best, best),
        truth("boundary, peaked", edge, best, edge, edge),
        truth("collapse, one seed in ten", best, best, best, best, collapse=(0.1, 0.0, 0.0, 0.0)),
        truth("collapse at the limit", best, best, best, best, collapse=(limit, 0.0, 0.0, 0.0)),
        truth("collapse at the limit, all", best, best, best, best, collapse=(limit,) * 4),
        truth("collapse of high ranks", edge, edge, best, 0.65, collapse=(0.0, 0.0, 0.05, 0.7)),
        truth("collapse of the start", edge, edge, best, 0.65, collapse=(limit, 0.0, 0.1, limit)),
    )
