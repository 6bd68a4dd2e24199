"""The score against each guard: what a smaller rank costs on a second measure, and how much it may."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from sweep.confirmation.outcome import Confirmed
from sweep.plots.style import BAD, GOOD, INK, interval, styled
from sweep.statistics.guards import Guard
from sweep.statistics.paired import mean_interval
from sweep.text import decimals_for


@dataclass(frozen=True, slots=True, kw_only=True)
class RankOnGuard:
    """One rank: means over its seeds with both measured, and the two-sided t intervals of them."""

    r: int
    measure: float
    measure_ends: tuple[float, float]
    reward: float
    reward_ends: tuple[float, float]
    passes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardInfo:
    """What is drawn of one guard, by ascending rank."""

    guard: Guard
    ranks: tuple[RankOnGuard, ...]
    start: int
    """The rank that others are held against."""
    limit: float | None
    """What the measure may come to, going by the mean of the start; None where that has none."""

    @property
    def label(self) -> str:
        """What a figure of it is called."""
        return f"guard-{''.join(c if c.isalnum() else '-' for c in self.guard.measure)}"

    @property
    def sentence(self) -> str:
        """The declaration, in words."""
        worse = "below" if self.guard.sign > 0 else "above"
        return f"In {self.guard.name}, a smaller rank may lie at most {self.guard.worse_by:g} {worse} r={self.start}"


def guards_info(confirmed: Confirmed) -> tuple[GuardInfo, ...]:
    """Reads what is drawn from a confirmation, for each guard that two ranks or more have a measure of."""
    data, found = confirmed.confirmation, []
    for i, (guard, measured) in enumerate(zip(confirmed.rule.guards, data.guards, strict=True)):
        summaries = {rank.r: rank.guards[i] for rank in confirmed.verdict.per_rank if rank.guards}
        start = next((own.start for own in summaries.values() if own.start is not None), None)
        ranks = []
        for position, frozen in enumerate(data.frozen):
            usable = data.alive[position] & np.isfinite(measured[position])
            if usable.sum() > 1:
                of_guard, of_score = measured[position][usable].tolist(), data.scores[position][usable].tolist()
                ranks.append(
                    RankOnGuard(
                        r=frozen.r,
                        measure=float(np.mean(of_guard)),
                        measure_ends=mean_interval(of_guard, confirmed.rule.confidence),
                        reward=float(np.mean(of_score)),
                        reward_ends=mean_interval(of_score, confirmed.rule.confidence),
                        passes=summaries[frozen.r].passes,
                    )
                )
        if start is not None and len(ranks) > 1:
            at_start = next((rank.measure for rank in ranks if rank.r == start), None)
            limit = None if at_start is None else at_start - guard.sign * guard.worse_by
            found.append(GuardInfo(guard=guard, ranks=tuple(ranks), start=start, limit=limit))
    return tuple(found)


def guard_figure(info: GuardInfo) -> go.Figure:
    """Draws it, a mark for each rank, hollow where the guard is not passed."""
    figure = go.Figure()
    decimals = decimals_for([rank.reward for rank in info.ranks])
    for rank in info.ranks:
        color = GOOD if rank.passes else BAD
        look = {"thickness": 1.5, "width": 5, "color": color}
        figure.add_scatter(
            x=[rank.measure],
            y=[rank.reward],
            error_x=interval([rank.measure], [rank.measure_ends[0]], [rank.measure_ends[1]], **look),
            error_y=interval([rank.reward], [rank.reward_ends[0]], [rank.reward_ends[1]], **look),
            mode="markers+text",
            text=[f"r={rank.r}"],
            textposition="top right",
            marker={"size": 12, "symbol": "circle" if rank.passes else "circle-open", "color": color},
            hovertemplate=f"r={rank.r}: %{{x:.4g}}, held-out reward %{{y:.{decimals}f}}<extra></extra>",
            showlegend=False,
        )
    if info.limit is not None:
        figure.add_vline(x=info.limit, line_dash="dash", line_color=INK, annotation_text="limit")
    return styled(figure, x=info.guard.name, y="held-out reward")
