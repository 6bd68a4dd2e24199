"""Which configuration of each rank goes to confirmation: the best one after smoothing.

The highest score of a search is an overstatement: the maximum over noisy trials picks luck along with
merit (the winner's curse). A Gaussian process fitted to all search trials lets every configuration borrow
from its neighbours, so a lucky trial among mediocre neighbours shrinks back towards them.

The model (Rasmussen and Williams, 2006, chapters 2 and 5) is scikit-learn's regressor: one squared
exponential kernel with a length scale per axis, plus white noise, fitted by marginal likelihood. Its axes,
all in powers of two, are r, alpha * learning_rate (the size of an update) and alpha / learning_rate
(everything else the pair can say). The axes are turned so because scores rise and collapse along
alpha * learning_rate, and a kernel with one length scale per axis can only stretch along its own axes.

It is fitted to scores of mean 0 and standard deviation 1, to so many digits that what it picks depends neither on the
units of the reward nor on where its zero is.

The estimate orders configurations and ranks before confirmation. No claim rests on it: the confirmation
seeds are fresh.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.statistics.gaussian_process import fit_and_predict
from sweep.statistics.paired import FloatArray
from sweep.statistics.tuning import why_untuned

_SETS_APART = 2.0
"""How far two sets of target modules lie apart, in doublings: as two neighbours on a ladder of powers of four."""

_DIGITS = 6
"""Of standardised scores and estimates. What is beyond them is rounding, which must not break a tie between equals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPoint:
    """One finished search trial."""

    r: int
    alpha: float
    learning_rate: float
    score: float
    """Held-out score; not looked at when the trial collapsed."""
    collapsed: bool = False
    target_modules: str | None = None
    """The set of modules that had an adapter, where sets were searched."""
    use_rslora: bool | None = None
    """Whether alpha was divided by sqrt(r), where both scalings were searched."""

    @property
    def plain_alpha(self) -> float:
        """The alpha that does the same divided by r: what scalings are compared by."""
        return self.alpha * math.sqrt(self.r) if self.use_rslora else self.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenConfiguration:
    """The configuration that stands for its rank in confirmation."""

    r: int
    alpha: float
    learning_rate: float
    smoothed: float
    """Smoothed search estimate of the score; orders the ranks before confirmation."""
    search_mean: float
    """Mean score of its own search trials, not smoothed: shows how much the smoothing took off."""
    n_search_trials: int
    target_modules: str | None = None
    """The set of modules that get an adapter, where sets were searched."""
    use_rslora: bool | None = None
    """Whether alpha is divided by sqrt(r), where both scalings were searched."""

    @property
    def point(self) -> dict[str, str | bool]:
        """What was searched besides r, alpha and learning rate, by the names that trials have it under."""
        chosen = {"target_modules": self.target_modules, "use_rslora": self.use_rslora}
        return {name: value for name, value in chosen.items() if value is not None}

    @property
    def words(self) -> str:
        """The same as people read it, as `, attention, rsLoRA`; empty where nothing was."""
        scaling = {None: "", True: ", rsLoRA", False: ", plain scaling"}[self.use_rslora]
        return f"{'' if self.target_modules is None else f', {self.target_modules}'}{scaling}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UntunedRank:
    """A rank that gets no confirmation trials, because it was not tuned like the others."""

    r: int
    n_points: int
    """Distinct points that the search finished at this rank."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothedSearch:
    """What a search hands over to confirmation."""

    frozen: tuple[FrozenConfiguration, ...]
    """One per tuned rank, by ascending r."""
    untuned: tuple[UntunedRank, ...]
    """By ascending r."""
    noise_sd: float
    """Standard deviation that the model puts down to noise, in units of score; nan without a fit. Times
    sqrt(2) it is a first guess at the noise of a paired difference, for planning."""


def freeze_configurations(
    points: Sequence[SearchPoint], ladder: Sequence[int], points_per_rank: int, sets: Sequence[str] = ()
) -> SmoothedSearch:
    """Pick one configuration per rank: the best smoothed estimate among those tried.

    Where sets of target modules or scalings were searched, a rank's best set and scaling are part of its configuration.
    A configuration that collapsed in any of its search trials is not picked. Ties go to the smaller
    alpha * learning_rate, the gentler update.

    Args:
        points: search trials that finished, collapsed ones included: they took part of the rank's budget.
        ladder: the ranks of the study; one without enough points is listed as untuned.
        points_per_rank: distinct points that a rank needs to count as tuned, with each set of target modules.
        sets: those that were searched; none where they were not.
    """
    trials = defaultdict(list)
    for point in points:
        trials[_configuration(point)].append(point)
    smoothed, noise_sd = smooth_scores(points)
    estimates = {_configuration(point): float(estimate) for point, estimate in zip(points, smoothed, strict=True)}
    frozen: list[FrozenConfiguration] = []
    untuned: list[UntunedRank] = []
    for r in sorted(set(ladder)):
        tried = [key for key in trials if key[0] == r]
        stable = [key for key in tried if not any(point.collapsed for point in trials[key])]
        with_set = {name: sum(key[3] == name for key in tried) for name in sets}
        if reason := why_untuned(tried, stable, points_per_rank, with_set):
            untuned.append(UntunedRank(r=r, n_points=len(tried), reason=reason))
            continue
        best = min(stable, key=lambda key: (-estimates[key], trials[key][0].plain_alpha * key[2], _order(key)))
        frozen.append(
            FrozenConfiguration(
                r=r,
                alpha=best[1],
                learning_rate=best[2],
                smoothed=estimates[best],
                search_mean=float(np.mean([point.score for point in trials[best]])),
                n_search_trials=len(trials[best]),
                target_modules=best[3],
                use_rslora=best[4],
            )
        )
    return SmoothedSearch(frozen=tuple(frozen), untuned=tuple(untuned), noise_sd=noise_sd)


_Key = tuple[int, float, float, str | None, bool | None]


def _configuration(point: SearchPoint) -> _Key:
    return point.r, point.alpha, point.learning_rate, point.target_modules, point.use_rslora


def _order(key: _Key) -> tuple[int, float, float, str, bool]:
    """Breaks what ties are left, also where what was searched is not known of every trial."""
    return (*key[:3], key[3] or "", bool(key[4]))


def smooth_scores(points: Sequence[SearchPoint]) -> tuple[FloatArray, float]:
    """Smoothed score at each search point, and the standard deviation put down to noise.

    A collapsed trial enters with the lowest score of any trial that did not collapse. It pulls its neighbours
    down, and so the choice away from an edge beyond which training collapses, which costs little score and
    is worth it: one collapse in confirmation can leave a whole verdict open. Entering at the floor instead
    would let the distance to the floor set the scale, next to which the scores that matter look alike.

    Args:
        points: search trials; at least one that did not collapse, or there is nothing to estimate.

    Returns:
        (estimates, noise_sd): estimates has shape (n_points,), equal for trials of one configuration; both
        nan when every trial collapsed.

    Raises:
        ValueError: a trial that did not collapse has a score that is not finite, or r, alpha or
            learning_rate is not positive.
    """
    for point in points:
        _check(point)
    alive = [point.score for point in points if not point.collapsed]
    if not alive:
        return np.full(len(points), np.nan), math.nan
    scores = np.array([min(alive) if point.collapsed else point.score for point in points])
    middle, scale = float(scores.mean()), float(scores.std())
    if scale <= 1e-12 * np.abs(scores).max():  # all the same, up to rounding
        return np.full(len(points), scores[0]), 0.0
    estimates, noise_sd = fit_and_predict(log2_axes(points), np.round((scores - middle) / scale, _DIGITS))
    return middle + scale * np.round(estimates, _DIGITS), scale * noise_sd


def log2_axes(points: Sequence[SearchPoint]) -> FloatArray:
    """Shape (n_points, 3 + s): log2 of r, alpha * learning_rate and alpha / learning_rate, and which set it is.

    Under rsLoRA, alpha is what it would be without: training is the same then. Of s sets of target modules each has an
    axis, of two just one; with one set there is none. Any two lie equally far apart.
    """
    rows = [(p.r, p.plain_alpha * p.learning_rate, p.plain_alpha / p.learning_rate) for p in points]
    sets = sorted({point.target_modules for point in points if point.target_modules is not None})
    # With an axis for each, two sets differ on two axes.
    axes, side = (sets, _SETS_APART / math.sqrt(2)) if len(sets) > 2 else (sets[1:], _SETS_APART)
    which = [[side * (point.target_modules == name) for name in axes] for point in points]
    return np.hstack([np.log2(np.array(rows, dtype=np.float64)), np.array(which, dtype=np.float64)])


def _check(point: SearchPoint) -> None:
    if min(point.r, point.alpha, point.learning_rate) <= 0:
        raise ValueError(f"r, alpha and learning_rate must be positive, got {point}")
    if not point.collapsed and not math.isfinite(point.score):
        raise ValueError(f"a search trial that did not collapse needs a finite score, got {point}")
