"""The rule of a verdict, as it is declared before confirmation; `decision` applies it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from sweep.statistics.guards import Guard
from sweep.statistics.paired import FloatArray


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
    guards: tuple[Guard, ...] = ()
    """What a smaller rank has to pass besides."""

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
