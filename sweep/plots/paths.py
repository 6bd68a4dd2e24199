"""How a confirmation that adds seeds one by one came to its verdict: every pair of ranks against its boundary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweep.confirmation.outcome import Confirmed
from sweep.plots.style import BAD, GOOD, rank_colors, styled
from sweep.statistics.paired import bound_contrasts
from sweep.statistics.sequential import t_statistics

EDGE = 2.5
"""Boundaries from zero that the axis reaches; what lies beyond is drawn at its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPath:
    """One rank held against another, look by look."""

    r: int
    rival: int
    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    """The t statistic as a share of its critical value: above 1 the rank passes, below -1 it is shown to fall short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsInfo:
    """Every pair of judged ranks."""

    pairs: tuple[PairPath, ...]
    cap: int


def paths_info(confirmed: Confirmed) -> PathsInfo | None:
    """Reads what is drawn; None for a fixed design, or before the first look."""
    rule, data = confirmed.rule, confirmed.confirmation
    ranks, judged = [frozen.r for frozen in data.frozen], {rank.r for rank in confirmed.verdict.per_rank if rank.judged}
    if rule.cap is None or not confirmed.looks:
        return None
    found: dict[tuple[int, int], list[tuple[int, float]]] = {}
    for k in confirmed.looks:
        first = data.first(k)
        bounds = bound_contrasts(first.gains, first.alive, rule.shares(len(ranks)), rule.confidence)
        critical = np.array(rule.critical)[bounds.n_seeds]
        reached = t_statistics(bounds, rule) / critical
        for i, r in enumerate(ranks):
            for j, rival in enumerate(ranks):
                # A pair that has no new seed has no new look.
                fresh = bool(np.isfinite(first.gains[[i, j], -1]).all() and first.alive[[i, j], -1].all())
                if i != j and {r, rival} <= judged and fresh and np.isfinite(reached[i, j]):
                    found.setdefault((r, rival), []).append((k, float(reached[i, j])))
    pairs = tuple(
        PairPath(r=r, rival=rival, seeds=tuple(k for k, _ in path), shares=tuple(share for _, share in path))
        for (r, rival), path in found.items()
    )
    return PathsInfo(pairs=pairs, cap=rule.cap) if pairs else None


def paths_figure(info: PathsInfo) -> go.Figure:
    """Draws it, a colour for each rank; one entry of the legend shows and hides all of a rank's pairs."""
    figure, named = go.Figure(), set[int]()
    colors = rank_colors(sorted({pair.r for pair in info.pairs}))
    for pair in info.pairs:
        figure.add_scatter(
            x=pair.seeds,
            y=np.clip(pair.shares, -EDGE, EDGE),
            customdata=pair.shares,
            mode="lines+markers",
            name=f"r={pair.r}",
            legendgroup=str(pair.r),
            showlegend=pair.r not in named,
            line={"color": colors[pair.r], "width": 1.5},
            marker={"size": 5},
            hovertemplate=f"r={pair.r} against r={pair.rival}, %{{x}} seeds: %{{customdata:.2f}}<extra></extra>",
        )
        named.add(pair.r)
    for y, color, said in ((1.0, GOOD, "passes above"), (-1.0, BAD, "falls short below")):
        figure.add_hline(y=y, line_dash="dash", line_color=color, annotation_text=said)
    figure.update_xaxes(range=[min(min(pair.seeds) for pair in info.pairs) - 0.5, info.cap + 0.5], dtick=1)
    figure.update_yaxes(range=[-EDGE - 0.2, EDGE + 0.2])
    return styled(figure, x="seeds", y="t, in units of its critical value")
