"""Held-out reward against what a rank costs: which ranks no other one beats at both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.answer.costs import RankCost
from sweep.plots.style import GOOD, INK, add_base_line, styled
from sweep.text import count, decimals_for, size

COSTS = ("memory_bytes", "adapter_parameters", "seconds_per_step")
TITLES = {
    "memory_bytes": "adapter memory",
    "adapter_parameters": "adapter parameters",
    "seconds_per_step": "seconds per step",
}

FRONT = {"size": 11, "symbol": "circle", "color": GOOD}
DOMINATED = {"size": 11, "symbol": "circle-open", "color": INK}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParetoInfo:
    """What is drawn: every rank with a mean held-out reward, by ascending rank, and which mean that is."""

    ranks: tuple[RankCost, ...]
    confirmed: bool
    """Whether rewards are means on fresh seeds, rather than over search trials that did not collapse."""
    base: float | None
    """The base policy's reward."""

    def known(self, cost: str) -> tuple[RankCost, ...]:
        """The ranks whose cost of this kind is known."""
        return tuple(rank for rank in self.ranks if getattr(rank, cost) is not None)

    def front(self, cost: str) -> tuple[int, ...]:
        """The ranks that no other one equals or beats at both, and beats at one."""
        points = {rank.r: (getattr(rank, cost), rank.reward) for rank in self.known(cost)}
        return tuple(r for r, own in points.items() if not any(_dominates(other, own) for other in points.values()))

    @property
    def dominated(self) -> tuple[int, ...]:
        """Ranks that are on no front."""
        fronts = {r for cost in COSTS for r in self.front(cost)}
        return tuple(rank.r for rank in self.ranks if rank.r not in fronts)

    @property
    def sentence(self) -> str:
        """Which ranks are on no front, in words."""
        return f"On none: {', '.join(f'r={r}' for r in self.dominated)}." if self.dominated else "Every rank is on one."


def pareto_info(ranks: Sequence[RankCost], *, confirmed: bool, base: float | None = None) -> ParetoInfo:
    """Reads what is drawn from what ranks cost."""
    return ParetoInfo(ranks=tuple(sorted(ranks, key=lambda rank: rank.r)), confirmed=confirmed, base=base)


def pareto_figure(info: ParetoInfo, cost: str) -> go.Figure:
    """Draws the ranks against one cost: those on the front filled and joined, the others hollow."""
    figure = go.Figure()
    places = decimals_for([rank.reward for rank in info.ranks])
    front = set(info.front(cost))
    ranks = sorted(info.known(cost), key=lambda rank: (getattr(rank, cost), rank.reward))
    for on_front in (True, False):
        own = [rank for rank in ranks if (rank.r in front) is on_front]
        if own:
            figure.add_scatter(
                x=[getattr(rank, cost) for rank in own],
                y=[rank.reward for rank in own],
                mode="lines+markers+text" if on_front else "markers+text",
                # In steps: between two ranks there is nothing to be had.
                line={"color": GOOD, "width": 1.5, "shape": "hv"},
                marker=FRONT if on_front else DOMINATED,
                text=[f"r={rank.r}" for rank in own],
                textposition="top left" if on_front else "bottom right",
                hovertext=[
                    f"r={rank.r}: {rank.reward:.{places}f}, {_written(getattr(rank, cost), cost)}" for rank in own
                ],
                hoverinfo="text",
                cliponaxis=False,
                showlegend=False,
            )
    add_base_line(figure, info.base)
    # Memory and parameters grow in proportion to r, whose ladder doubles or more; seconds per step hardly grow.
    scaled = cost != "seconds_per_step"
    ends = [float(getattr(rank, cost)) for rank in ranks]
    figure.update_xaxes(range=_with_room([math.log10(end) for end in ends] if scaled else ends))
    if scaled:
        ticks = {getattr(rank, cost): _written(getattr(rank, cost), cost) for rank in ranks}
        figure.update_xaxes(type="log", tickvals=list(ticks), ticktext=list(ticks.values()), tickangle=-40)
    return styled(figure, x=TITLES[cost], y="held-out reward", height=300)


def _dominates(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other != own and other[0] <= own[0] and other[1] >= own[1]


def _with_room(ends: Sequence[float]) -> list[float]:
    """A range in which names fit beside the first and the last mark."""
    low, high = min(ends), max(ends)
    room = (high - low) or 0.1 * abs(high) or 1.0
    return [low - 0.2 * room, high + 0.15 * room]


def _written(value: float, cost: str) -> str:
    if cost == "memory_bytes":
        return size(value)
    return count(value) if cost == "adapter_parameters" else f"{value:.2f} s"
