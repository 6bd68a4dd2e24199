"""How the best learning rate moves with rank: its slope in log-log, with an interval.

The score is taken for quadratic in log2 of learning rate and alpha, with one curvature for all ranks, an own level for
each, and a best rate whose log moves in proportion to those of r and alpha: least squares. The best rate is then a
ratio of two of its coefficients, and so are slopes. Their intervals are Fieller's (Fieller, JRSS B 16, 1954), exact
where the score is such a square and its noise normal, and without an end where the curvature cannot be told from zero:
then nothing is claimed. Scores that bend otherwise, as before a collapse, are covered less often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from sweep.statistics.paired import FloatArray
from sweep.statistics.smoothing import SearchPoint

CONFIDENCE = 0.95
"""Of each two-sided interval."""

SAME = "alpha was the same at every rank, which says nothing of an alpha proportional to r"
PROPORTIONAL = "alpha was proportional to r in every trial, which says nothing of an alpha that is fixed"

_LEAST_FREEDOM = 3
"""Trials beyond the terms of the fit. With fewer, an interval is too wide to say anything."""


class Interval(NamedTuple):
    """An estimate between its bounds."""

    estimate: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLine:
    """How the best learning rate moves with rank under one way to set alpha."""

    slope: Interval
    """d log(best rate) / d log(r)."""
    rates: tuple[tuple[int, Interval], ...]
    """The best rate at each rank, where the alpha that this way sets was among those tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRates:
    """How the best learning rate moves with rank. A line is None where the trials do not say."""

    fixed_alpha: RateLine | None = None
    """With the same alpha at every rank, so that an adapter is multiplied by alpha / r."""
    alpha_by_r: RateLine | None = None
    """With alpha proportional to r, so that every adapter is multiplied by the same."""
    why_none: str = ""
    """Why a line is missing; empty where both are there."""


def best_rates(points: Sequence[SearchPoint]) -> BestRates:
    """How the best learning rate moves with rank.

    Args:
        points: Search trials of one scaling and one set of target modules. Those that collapsed are left out: what
            they scored is the floor.
    """
    points = [point for point in points if not point.collapsed]
    surface = _Surface.of(points)
    if surface is None:
        return BestRates(
            why_none=f"{len(points)} trials that did not collapse are too few, or too much alike, for a fit; a design "
            "of more points (search.points_per_rank) would tell"
        )
    if why := _why_no_best(surface):
        return BestRates(why_none=why)
    if surface.alpha_is == "the same":
        return BestRates(fixed_alpha=surface.line(0.0), why_none=SAME)
    if surface.alpha_is == "proportional":
        # No term of alpha was fitted, so what moves with r has both.
        return BestRates(alpha_by_r=surface.line(0.0), why_none=PROPORTIONAL)
    return BestRates(fixed_alpha=surface.line(0.0), alpha_by_r=surface.line(1.0))


def _why_no_best(surface: _Surface) -> str:
    """Why a fit names no best rate; empty where it does."""
    if surface.curvature >= 0 or surface.best(0.0, 0.0) is None:
        return "how the score bends over learning rates cannot be told from noise"
    rates = sorted(point.learning_rate for point in surface.points)
    for r in sorted({point.r for point in surface.points}):
        if not surface.has_best_inside(r):
            return (
                f"at r={r} the fitted best rate lies outside of those that did not collapse, {rates[0]:g} to "
                f"{rates[-1]:g}"
            )
    return ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Surface:
    """The fitted score. Axes are log2 of r, learning rate and alpha, each from its middle."""

    points: Sequence[SearchPoint]
    axes: FloatArray
    """Shape (n_points, 3)."""
    middles: FloatArray
    """Shape (3,)."""
    alpha_is: Literal["free", "the same", "proportional"]
    coefficients: FloatArray
    """Shape (n_terms,): of rate squared, rate, rate x r, rate x alpha, and what does not move the best rate."""
    covariance: FloatArray
    quantile: float
    """Of Student's t, for two-sided intervals."""

    @classmethod
    def of(cls, points: Sequence[SearchPoint]) -> _Surface | None:
        """Fits it; None where the points do not determine every term with some to spare."""
        if len({point.learning_rate for point in points}) < 3 or len({point.r for point in points}) < 2:
            return None
        axes = np.log2([(float(point.r), point.learning_rate, point.alpha) for point in points])
        middles = axes.mean(axis=0)
        axes -= middles
        alpha_is = _how_alpha_is(axes)
        terms, scores = _terms(axes, alpha_is), np.array([point.score for point in points])
        spare = len(terms) - terms.shape[1]
        if spare < _LEAST_FREEDOM or np.linalg.matrix_rank(terms) < terms.shape[1]:
            return None
        coefficients = np.linalg.lstsq(terms, scores, rcond=None)[0]
        variance = float(np.square(scores - terms @ coefficients).sum()) / spare
        return cls(
            points=points,
            axes=axes,
            middles=middles,
            alpha_is=alpha_is,
            coefficients=coefficients,
            covariance=variance * np.linalg.inv(terms.T @ terms),
            quantile=float(special.stdtrit(spare, (1 + CONFIDENCE) / 2)),
        )

    @property
    def curvature(self) -> float:
        """Of the score over log2 of the rate; below zero where there is a best rate."""
        return float(self.coefficients[0])

    def best(self, r: float, alpha: float) -> Interval | None:
        """The best rate at a place on the axes of r and alpha, on its own axis."""
        return self._ratio(1.0, r, alpha)

    def has_best_inside(self, r: int) -> bool:
        """Whether the best rate of a rank, at the middle of its alphas, is among those tried."""
        own = self.axes[[point.r == r for point in self.points]].mean(axis=0)
        best = self.best(own[0], own[2])
        return best is not None and self.axes[:, 1].min() <= best.estimate <= self.axes[:, 1].max()

    def line(self, moves: float) -> RateLine | None:
        """How the best rate moves with rank if log2 of alpha moves by so much for each doubling of r."""
        slope = self._ratio(0.0, 1.0, moves)
        if slope is None:
            return None
        lowest, highest = self.axes[:, 2].min() - 1e-9, self.axes[:, 2].max() + 1e-9
        rates = []
        for r in sorted({point.r for point in self.points}):
            place = math.log2(r) - self.middles[0]
            best = self.best(place, moves * place)
            if best is not None and lowest <= moves * place <= highest:
                ends = (best.estimate, best.lower, best.upper)
                rates.append((r, Interval(*(float(2 ** (end + self.middles[1])) for end in ends))))
        return RateLine(slope=slope, rates=tuple(rates))

    def _ratio(self, constant: float, r: float, alpha: float) -> Interval | None:
        """Fieller's interval of a combination of the rate's coefficients over -2 x the curvature; None without ends."""
        over, under = np.zeros((2, len(self.coefficients)))
        under[0], over[1:3] = -2.0, (constant, r)
        if self.alpha_is == "free":
            over[3] = alpha
        n, d = float(over @ self.coefficients), float(under @ self.coefficients)
        error = self.quantile**2 * self.covariance
        # All ratios that a t test of over - ratio x under = 0 does not reject: a x^2 - 2 b x + c <= 0.
        a, b, c = d * d - under @ error @ under, n * d - over @ error @ under, n * n - over @ error @ over
        if a <= 0:
            return None
        root = math.sqrt(max(float(b * b - a * c), 0.0))
        return Interval(n / d, float(b - root) / float(a), float(b + root) / float(a))


def _how_alpha_is(axes: FloatArray) -> Literal["free", "the same", "proportional"]:
    if np.ptp(axes[:, 2]) < 1e-9:
        return "the same"
    return "proportional" if np.ptp(axes[:, 2] - axes[:, 0]) < 1e-9 else "free"


def _terms(axes: FloatArray, alpha_is: str) -> FloatArray:
    """Shape (n_points, n_terms): a square in rate and alpha that moves with r, and a level for each rank."""
    r, rate, alpha = axes.T
    levels = [np.isclose(r, own).astype(float) for own in np.unique(r.round(9))]
    if alpha_is != "free":
        return np.column_stack([rate**2, rate, rate * r, *levels])
    bend = [alpha**2] if len(np.unique(alpha.round(9))) > 2 else []
    return np.column_stack([rate**2, rate, rate * r, rate * alpha, alpha, alpha * r, *bend, *levels])
