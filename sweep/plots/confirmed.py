"""Held-out reward on confirmation seeds by rank: every seed a mark, every rank its mean and interval."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.confirmation.outcome import Confirmed
from sweep.plots.style import GOOD, INK, add_base_line, interval, reward_hover, styled
from sweep.statistics.verdict import RankSummary
from sweep.text import decimals_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedInfo:
    """What is drawn: each judged rank's scores by seed, collapsed ones apart, and its summary.

    A trial that was stopped when it collapsed has no score at its budget's end: nan.
    """

    scores: dict[int, tuple[float, ...]]
    collapsed: dict[int, tuple[float, ...]]
    ranks: tuple[RankSummary, ...]
    answer: int | None
    base: float | None
    """The base policy's mean over the seeds; None where it was not scored under each."""


def confirmed_info(confirmed: Confirmed) -> ConfirmedInfo:
    """Reads what is drawn from a confirmation."""
    data = confirmed.confirmation
    ranks = [frozen.r for frozen in data.frozen]
    return ConfirmedInfo(
        scores={r: tuple(data.scores[i][data.alive[i]].tolist()) for i, r in enumerate(ranks)},
        collapsed={r: tuple(data.scores[i][data.collapsed[i]].tolist()) for i, r in enumerate(ranks)},
        ranks=tuple(rank for rank in confirmed.verdict.per_rank if rank.r in ranks),
        answer=confirmed.verdict.r,
        base=confirmed.verdict.base,
    )


def confirmed_figure(info: ConfirmedInfo) -> go.Figure:
    """Draws it, ranks side by side at equal distances."""
    figure = go.Figure()
    places = decimals_for([info.base, *(score for scores in info.scores.values() for score in scores)])
    for place, rank in enumerate(info.ranks):
        color = GOOD if rank.r == info.answer else INK
        for values, symbol in ((info.scores[rank.r], "circle"), (info.collapsed[rank.r], "x")):
            if values:
                # Seeds side by side: marks of like rewards would cover each other.
                spread = [place - 0.18 + 0.12 * i / max(len(values) - 1, 1) for i in range(len(values))]
                figure.add_scatter(
                    x=spread,
                    y=values,
                    mode="markers",
                    marker={"size": 7, "symbol": symbol, "color": color, "opacity": 0.5},
                    hovertemplate=f"r={rank.r}: {reward_hover(places)}",
                    showlegend=False,
                )
        if rank.mean is not None and rank.lower is not None and rank.upper is not None:
            figure.add_scatter(
                x=[place + 0.1],
                y=[rank.mean],
                error_y=interval([rank.mean], [rank.lower], [rank.upper], thickness=2, width=8),
                mode="markers",
                marker={"size": 11, "color": color, "symbol": "diamond"},
                hovertemplate=f"r={rank.r}: mean %{{y:.{places}f}}, {rank.n_seeds} seeds<extra></extra>",
                showlegend=False,
            )
    add_base_line(figure, info.base)
    labels = [f"{rank.r}<br>{rank.collapsed} collapsed" if rank.collapsed else str(rank.r) for rank in info.ranks]
    figure.update_xaxes(tickvals=list(range(len(info.ranks))), ticktext=labels)
    return styled(figure, x="rank r", y="held-out reward, fresh seeds")
