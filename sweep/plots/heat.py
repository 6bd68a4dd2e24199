"""Held-out reward by rank and one other parameter: means, and how many trials each one stands on."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.plots.style import SEQUENTIAL, styled
from sweep.summary import StudySummary


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatInfo:
    """What is drawn: `mean[i][j]` and `n[i][j]` of column i's parameter value and row j's rank.

    A cell without trials has mean None and n 0.
    """

    parameter: str
    ranks: tuple[int, ...]
    levels: tuple[float, ...]
    mean: tuple[tuple[float | None, ...], ...]
    n: tuple[tuple[int, ...], ...]


def heat_info(summary: StudySummary, parameter: str) -> HeatInfo:
    """Reads what is drawn from a study.

    Args:
        summary: The study.
        parameter: "alpha" or "learning_rate".
    """
    cells: dict[tuple[float, int], list[float]] = defaultdict(list)
    for trial in summary.trials:
        if trial.value is not None and trial.r is not None:
            cells[getattr(trial, parameter), trial.r].append(trial.value)
    ranks = tuple(sorted({r for _, r in cells}))
    levels = tuple(sorted({level for level, _ in cells}))
    return HeatInfo(
        parameter=parameter,
        ranks=ranks,
        levels=levels,
        mean=tuple(tuple(_mean(cells.get((level, r), [])) for r in ranks) for level in levels),
        n=tuple(tuple(len(cells.get((level, r), [])) for r in ranks) for level in levels),
    )


def heat_figure(info: HeatInfo) -> go.Figure:
    """Draws it, ranks from left to right."""
    text = [
        [f"{mean:.2f}<br>n={n}" if mean is not None else "" for mean, n in zip(means, counts, strict=True)]
        for means, counts in zip(info.mean, info.n, strict=True)
    ]
    figure = go.Figure(
        go.Heatmap(
            z=info.mean,
            x=[str(r) for r in info.ranks],
            y=[f"{level:g}" for level in info.levels],
            text=text,
            texttemplate="%{text}",
            colorscale=SEQUENTIAL,
            colorbar={"title": "mean", "thickness": 12},
            hovertemplate=f"r %{{x}}, {info.parameter} %{{y}}: %{{z:.3f}}<extra></extra>",
            xgap=2,
            ygap=2,
        )
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(type="category")
    return styled(figure, x="rank r", y=info.parameter.replace("_", " "), height=360)


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
