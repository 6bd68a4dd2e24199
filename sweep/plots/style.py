"""How every figure looks: legible on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

INK = "#7d8590"
GOOD = "#2da44e"
BAD = "#cf6a4c"
EMPTY = "#afb8c1"
"""Opaque: on one that is seen through, plotly writes in dark on a dark page."""
GRID = "rgba(125, 133, 144, 0.25)"
SEQUENTIAL = "Viridis"


def styled(figure: go.Figure, *, x: str, y: str, height: int = 420, **layout: Any) -> go.Figure:
    """Gives a figure its axis titles and the common look."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "family": "system-ui, sans-serif", "size": 13},
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        height=height,
        xaxis_title=x,
        yaxis_title=y,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False)
    figure.update_yaxes(gridcolor=GRID, zeroline=False)
    return figure


def add_base_line(figure: go.Figure, base: float | None, *, named: str = "base policy") -> None:
    """A dotted line at the base policy's reward, where it is known: what every reward has to be read against."""
    if base is not None:
        figure.add_hline(y=base, line_dash="dot", line_color=INK, annotation_text=named)


def reward_hover(decimals: int) -> str:
    """What pointing at a mark shows: its reward alone."""
    return f"%{{y:.{decimals}f}}<extra></extra>"


def rank_colors(ranks: list[int]) -> dict[int, str]:
    """A colour for each rank, dark to light in order of rank, legible on white and on black."""
    from plotly.colors import sample_colorscale

    stops = [0.5] if len(ranks) == 1 else [0.25 + 0.6 * i / (len(ranks) - 1) for i in range(len(ranks))]
    return dict(zip(ranks, sample_colorscale(SEQUENTIAL, stops), strict=True))


def interval(middles: Sequence[float], lower: Sequence[float], upper: Sequence[float], **look: Any) -> dict[str, Any]:
    """Error bars from `lower` to `upper`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - middle for high, middle in zip(upper, middles, strict=True)],
        "arrayminus": [middle - low for low, middle in zip(lower, middles, strict=True)],
        **look,
    }


def faded(color: str, opacity: float) -> str:
    """A colour `rgb(...)`, seen through."""
    return color.replace("rgb(", "rgba(").replace(")", f", {opacity})")
