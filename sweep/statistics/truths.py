"""Planted truths: what the ranks are really worth, for simulated confirmation studies.

The scores are like those of the shipped tiny policy: a base policy at .25 and ranks between .4 and .6, with seeds that
differ by a standard deviation of .02. The last three truths are what the shipped studies' own confirmations came to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sweep.statistics.paired import BoolArray, FloatArray
from sweep.statistics.rule import Rule

_ROUNDING = 1e-9
"""Truths that lie on a boundary must count as on it, whatever the last bit of a float says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """True mean score and collapse rate of each rank on a ladder, by ascending rank."""

    name: str
    means: tuple[float, ...]
    """Mean held-out score of a trial that does not collapse."""
    collapse_rates: tuple[float, ...]
    base: float = 0.25
    """Mean held-out score of the base policy."""

    @property
    def gains(self) -> FloatArray:
        """What each rank is really worth above the base policy; shape (n_ranks,)."""
        return np.array(self.means) - self.base

    def spare(self, rule: Rule) -> FloatArray:
        """By how much each rank has more than the rule asks, held against the best that does not collapse too often.

        Shape (n_ranks,); negative for a rank that is too small.
        """
        gains, stable = self.gains, np.array(self.collapse_rates) < rule.collapse_limit - _ROUNDING
        asked = rule.share * gains[stable].max() - rule.margin if stable.any() else -np.inf
        return np.asarray(gains - asked)

    def wrong_to_declare(self, rule: Rule) -> BoolArray:
        """Ranks that are too small, learn nothing, or collapse too often; being exactly at a boundary is wrong too."""
        too_often = np.array(self.collapse_rates) >= rule.collapse_limit - _ROUNDING
        unlearned = (self.gains <= _ROUNDING) & rule.gains
        return np.asarray((self.spare(rule) <= _ROUNDING) | unlearned | too_often)

    def wrong_to_dismiss(self, rule: Rule) -> BoolArray:
        """Ranks that do not fall *short* of what the rule asks, and do not collapse above the limit."""
        rates = np.array(self.collapse_rates)
        return (self.spare(rule) >= -_ROUNDING) & (rates <= rule.collapse_limit + _ROUNDING)


def planted_truths(rule: Rule) -> tuple[Truth, ...]:
    """Ladders on which a rule for choosing a rank should be tried.

    Args:
        rule: what it asks for and its collapse limit are where the boundary truths are planted: the hardest cases,
            and the ones at which the promised error rate is reached.
    """
    base, best, limit = 0.25, 0.60, rule.collapse_limit
    edge = base + rule.share * (best - base) - rule.margin
    never = (0.0, 0.0, 0.0, 0.0)

    def truth(name: str, *means: float, collapse: tuple[float, ...] = never, base: float = base) -> Truth:
        return Truth(name=name, means=means, collapse_rates=collapse[: len(means)], base=base)

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
        truth("nothing learned", base, base, base, base),
        truth("nothing learned, two ranks", base, base),
        truth("worse than the base policy", 0.24, 0.22, 0.20, 0.10),
        truth("one rank learned", base, base, base, best),
        truth("a small gain", 0.26, 0.26, 0.26, 0.26),
        truth("nothing learned, collapse", base, base, base, base, collapse=(0.0, 0.1, 0.3, limit)),
        truth("as tiny", 0.467, 0.560, 0.580, 0.593, base=0.248),
        truth("as tiny_4_symbols", 0.607, 0.630, 0.693, 0.685, base=0.253),
        truth("as tiny_1_symbol", 0.968, 0.973, 0.985, 0.973, base=0.317),
    )
