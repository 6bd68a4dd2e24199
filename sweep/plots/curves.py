"""Learning curves by rank: training reward by step, each trial thin and each rank's median thick."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from sweep import record
from sweep.plots.style import rank_colors, styled
from sweep.search import REDONE

if TYPE_CHECKING:
    import optuna

Curve = tuple[float, ...]
MAX_POINTS = 100
"""Points a curve is drawn with, at most: more are thinned, so that a page stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvesInfo:
    """What is drawn: each rank's curves, smoothed over `window` steps; a pruned trial's curve is shorter."""

    curves: dict[int, tuple[Curve, ...]]
    window: int

    def median(self, r: int) -> Curve:
        """The median over a rank's trials, for the steps that more than half of them reached."""
        curves = self.curves[r]
        lengths = sorted(len(curve) for curve in curves)
        reached = lengths[(len(lengths) - 1) // 2]
        return tuple(statistics.median(c[step] for c in curves if len(c) > step) for step in range(reached))


def curves_info(study: optuna.Study) -> CurvesInfo:
    """Reads what is drawn from a study."""
    curves: dict[int, list[Curve]] = defaultdict(list)
    longest = 1
    for trial in study.get_trials(deepcopy=False):
        rewards = trial.user_attrs.get(record.CURVE, {}).get("reward", [])
        if rewards and REDONE not in trial.user_attrs:
            curves[trial.params["r"]].append(tuple(rewards))
            longest = max(longest, len(rewards))
    window = max(1, longest // 16)
    return CurvesInfo(
        curves={r: tuple(_smoothed(curve, window) for curve in curves[r]) for r in sorted(curves)}, window=window
    )


def curves_figure(info: CurvesInfo) -> go.Figure:
    """Draws it. A click on a rank in the legend hides its trials with it."""
    figure = go.Figure()
    colors = rank_colors(list(info.curves))
    for r, curves in info.curves.items():
        for curve in curves:
            _add_line(figure, curve, r, {"color": colors[r], "width": 1}, opacity=0.35, showlegend=False)
        _add_line(figure, info.median(r), r, {"color": colors[r], "width": 4}, name=f"r={r}")
    over = f" (mean of {info.window} steps)" if info.window > 1 else ""
    return styled(figure, x="step", y=f"training reward{over}")


def _add_line(figure: go.Figure, curve: Curve, r: int, line: dict[str, object], **options: object) -> None:
    stride = max(1, len(curve) // MAX_POINTS)
    steps = list(range(1, len(curve) + 1))[::stride]
    values = [round(value, 4) for value in curve[::stride]]
    figure.add_scatter(x=steps, y=values, mode="lines", line=line, legendgroup=f"r={r}", hoverinfo="skip", **options)


def _smoothed(curve: Curve, window: int) -> Curve:
    """The mean of the last `window` steps, of fewer at the start."""
    return tuple(statistics.fmean(curve[max(0, step - window + 1) : step + 1]) for step in range(len(curve)))
