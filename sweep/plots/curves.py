"""Learning curves by rank: the median of training reward, the middle half around it, and some single trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import plotly.graph_objects as go

from sweep.plots.style import add_base_line, faded, rank_colors, styled
from sweep.statistics.paired import FloatArray
from sweep.storage import attributes
from sweep.text import decimals_for

if TYPE_CHECKING:
    import optuna

Measure = Literal["step", "tokens"]
AXES: dict[Measure, str] = {"step": "step", "tokens": "completion tokens"}
MAX_POINTS = 100
"""Points that a line is drawn with, at most: more are thinned, so that a page stays small."""
MAX_LINES = 6
"""Single trials that are drawn for a rank, at most, for the same reason: of more, some spread over the study."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One trial's reward along its budget. Both arrays have shape (n_points,)."""

    x: FloatArray
    reward: FloatArray
    collapsed: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RankCurves:
    """One rank's curves, and their quartiles as far as every trial got that did not collapse.

    A trial that collapsed lost its reward for good, so it counts with its last one to the end: left out from where it
    was stopped, it would make its rank look better than it is.
    """

    trials: int
    singles: tuple[Curve, ...]
    x: FloatArray
    quartiles: FloatArray
    """Shape (3, len(x)): lower quartile, median, upper quartile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesInfo:
    """What is drawn, by ascending rank. Rewards are means over the last `window` steps."""

    measure: Measure
    ranks: dict[int, RankCurves]
    window: int
    base: float | None
    """The base policy's reward, on held-out prompts: nobody measures it on the training prompts."""


def curves_info(
    trials: Sequence[optuna.trial.FrozenTrial], measure: Measure = "step", *, base: float | None = None
) -> CurvesInfo:
    """Reads what is drawn from trials.

    Args:
        trials: Of a search or a confirmation; those without a curve are passed over, and those that a pruner ended.
        measure: What is counted along the budget.
        base: The base policy's held-out reward; None where it is not known.
    """
    curves: dict[int, list[Curve]] = defaultdict(list)
    for trial in trials:
        curve = trial.user_attrs.get(attributes.CURVE, {})
        reward = np.asarray(curve.get("reward", []), dtype=np.float64)
        finite = np.isfinite(reward)
        if finite.any() and attributes.ENDED_EARLY not in trial.user_attrs:
            x = np.asarray(curve[measure], dtype=np.float64)
            collapsed = bool(trial.user_attrs.get(attributes.COLLAPSED))
            curves[trial.params["r"]].append(Curve(x=x[finite], reward=reward[finite], collapsed=collapsed))
    window = max(1, max((len(curve.x) for own in curves.values() for curve in own), default=1) // 16)
    return CurvesInfo(
        measure=measure,
        ranks={r: _rank_curves([_smoothed(curve, window) for curve in curves[r]]) for r in sorted(curves)},
        window=window,
        base=base,
    )


def curves_figure(info: CurvesInfo) -> go.Figure:
    """Draws it. A click on a rank in the legend hides all of it."""
    figure = go.Figure()
    places = 1 + decimals_for(value for rank in info.ranks.values() for value in rank.quartiles.ravel().tolist())
    written = partial(_rounded, places=places)
    colors = rank_colors(list(info.ranks))
    # In this order, so that no band covers a median.
    for r, rank in info.ranks.items():
        x, (low, _, high) = _written(rank.x), map(written, rank.quartiles)
        _add_line(figure, r, [*x, *reversed(x)], [*high, *reversed(low)], fill=faded(colors[r], 0.18))
    for r, rank in info.ranks.items():
        for curve in rank.singles:
            few = _thinned(len(curve.x))
            _add_line(figure, r, _written(curve.x[few]), written(curve.reward[few]), color=faded(colors[r], 0.3))
    for r, rank in info.ranks.items():
        _add_line(figure, r, _written(rank.x), written(rank.quartiles[1]), color=colors[r], width=3.5, named=True)
    add_base_line(figure, info.base, named="base policy, held-out")
    over = f" (mean of {info.window} steps)" if info.window > 1 else ""
    return styled(figure, x=AXES[info.measure], y=f"training reward{over}")


def _add_line(
    figure: go.Figure,
    r: int,
    x: list[float],
    y: list[float],
    *,
    color: str | None = None,
    width: float = 1,
    fill: str | None = None,
    named: bool = False,
) -> None:
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        line={"width": 0} if color is None else {"color": color, "width": width},
        fill=None if fill is None else "toself",
        fillcolor=fill,
        name=f"r={r}",
        legendgroup=f"r={r}",
        showlegend=named,
        hoverinfo="skip",
    )


def _rank_curves(curves: list[Curve]) -> RankCurves:
    learned = [curve for curve in curves if not curve.collapsed]
    reached = min(curve.x[-1] for curve in learned) if learned else max(curve.x[-1] for curve in curves)
    grid = np.unique(np.concatenate([curve.x for curve in curves]))
    grid = grid[(grid >= max(curve.x[0] for curve in curves)) & (grid <= reached)]
    grid = grid[_thinned(len(grid))]
    # Beyond its end a curve counts with its last reward.
    rewards = np.array([np.interp(grid, curve.x, curve.reward) for curve in curves])
    few = np.unique(np.linspace(0, len(curves) - 1, min(len(curves), MAX_LINES)).round().astype(int))
    return RankCurves(
        trials=len(curves),
        singles=tuple(curves[i] for i in few),
        x=grid,
        quartiles=np.quantile(rewards, (0.25, 0.5, 0.75), axis=0),
    )


def _thinned(n: int) -> np.ndarray:
    """Indices of at most `MAX_POINTS` of n points, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int))


def _smoothed(curve: Curve, window: int) -> Curve:
    """The mean of the last `window` steps, of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], curve.reward]))
    ends = np.arange(1, len(curve.reward) + 1)
    starts = np.maximum(ends - window, 0)
    return replace(curve, reward=(sums[ends] - sums[starts]) / (ends - starts))


def _written(values: FloatArray) -> list[float]:
    """Steps or tokens, with as few digits as a page needs."""
    return [float(f"{value:.4g}") if abs(value) < 100 else round(float(value)) for value in values]


def _rounded(values: FloatArray, *, places: int) -> list[float]:
    return [round(float(value), places) for value in values]
