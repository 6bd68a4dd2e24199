"""Held-out reward by rank and one other parameter: means, and how many trials each one stands on."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.plots.style import EMPTY, SEQUENTIAL, styled
from sweep.storage.summary import StudySummary
from sweep.text import decimals_for

CROSS = "\N{MULTIPLICATION X}"
"""Stands for trials that collapsed, as in the other figures. The word itself would not fit a cell on a phone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatInfo:
    """What is drawn: of column j's rank and row i's level, `mean[i][j]` over the trials that did not collapse.

    `n[i][j]` counts all trials of the cell, `collapsed[i][j]` those of them that collapsed. Without any other trial the
    mean is None.
    """

    parameter: str
    ranks: tuple[int, ...]
    levels: tuple[float, ...]
    mean: tuple[tuple[float | None, ...], ...]
    n: tuple[tuple[int, ...], ...]
    collapsed: tuple[tuple[int, ...], ...]


def heat_info(summary: StudySummary, parameter: str) -> HeatInfo:
    """Reads what is drawn from a study.

    Args:
        summary: The study.
        parameter: "alpha" or "learning_rate".
    """
    learned: dict[tuple[float, int], list[float]] = defaultdict(list)
    lost: dict[tuple[float, int], int] = defaultdict(int)
    for trial in summary.trials:
        if trial.value is not None and trial.r is not None:
            cell = getattr(trial, parameter), trial.r
            if trial.collapsed:
                lost[cell] += 1
            else:
                learned[cell].append(trial.value)
    cells = learned.keys() | lost.keys()
    ranks = tuple(sorted({r for _, r in cells}))
    levels = tuple(sorted({level for level, _ in cells}))
    rows = [[(level, r) for r in ranks] for level in levels]
    return HeatInfo(
        parameter=parameter,
        ranks=ranks,
        levels=levels,
        mean=tuple(tuple(_mean(learned.get(cell, [])) for cell in row) for row in rows),
        n=tuple(tuple(len(learned.get(cell, [])) + lost.get(cell, 0) for cell in row) for row in rows),
        collapsed=tuple(tuple(lost.get(cell, 0) for cell in row) for row in rows),
    )


def heat_figure(info: HeatInfo) -> go.Figure:
    """Draws it, ranks from left to right. A cell in which every trial collapsed is grey."""
    ranks, levels = [str(r) for r in info.ranks], [f"{level:g}" for level in info.levels]
    places = decimals_for([mean for row in info.mean for mean in row])
    text = [
        [_cell_text(*cell, places) for cell in zip(*row, strict=True)]
        for row in zip(info.mean, info.n, info.collapsed, strict=True)
    ]
    # A heat map leaves cells without a number blank, and blank already says that nothing was tried.
    grey = [
        [1 if mean is None and n else None for mean, n in zip(*row, strict=True)]
        for row in zip(info.mean, info.n, strict=True)
    ]
    common = {"x": ranks, "y": levels, "text": text, "texttemplate": "%{text}", "xgap": 2, "ygap": 2}
    figure = go.Figure()
    figure.add_heatmap(z=grey, colorscale=[EMPTY, EMPTY], showscale=False, hoverinfo="skip", **common)
    figure.add_heatmap(
        z=info.mean,
        colorscale=SEQUENTIAL,
        showscale=False,
        hovertemplate=f"r %{{x}}, {info.parameter} %{{y}}: %{{text}}<extra></extra>",
        **common,
    )
    styled(figure, x="rank r", y=info.parameter.replace("_", " "), height=120 + 75 * max(len(levels), 2))
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def _cell_text(mean: float | None, n: int, collapsed: int, places: int) -> str:
    if not n:
        return ""
    lines = ["" if mean is None else f"{mean:.{places}f}", f"n={n}", f"{collapsed} {CROSS}" if collapsed else ""]
    return "<br>".join(line for line in lines if line)


def _mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
