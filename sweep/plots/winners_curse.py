"""The winner's curse: each rank's best search trial, and what the rank comes to on fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.confirmation.outcome import Confirmed
from sweep.plots.style import BAD, INK, add_base_line, interval, reward_hover, styled
from sweep.storage.summary import StudySummary
from sweep.text import decimals_for

ASIDE = 0.1
"""How far the two marks of a rank stand from its place, or one would cover the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCurse:
    """One rank: its luckiest search trial, the smoothed estimate of what was frozen, and the mean on fresh seeds."""

    r: int
    search_max: float
    search_trials: int
    smoothed: float
    mean: float
    lower: float | None
    upper: float | None
    seeds: int

    @property
    def overstated(self) -> float:
        """By how much the search's maximum lies above the mean on fresh seeds; negative where it lies below."""
        return self.search_max - self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersCurseInfo:
    """What is drawn, by ascending rank."""

    ranks: tuple[RankCurse, ...]
    confidence: float
    base: float | None = None
    """The base policy's reward, over the confirmation's seeds where it was scored under each."""

    @property
    def decimals(self) -> int:
        """With which its rewards are told apart."""
        return decimals_for(
            [end for rank in self.ranks for end in (rank.search_max, rank.mean, rank.lower, rank.upper)]
        )

    @property
    def sentence(self) -> str:
        """By how much the search as a whole overstated, in words."""
        best = max(self.ranks, key=lambda rank: rank.search_max)
        places = self.decimals
        word = "above" if best.overstated >= 0 else "below"
        told = (
            f"The best of the search's trials, at r={best.r}, had {best.search_max:.{places}f}. On fresh seeds the "
            f"mean of r={best.r} is {best.mean:.{places}f}: the maximum lies {abs(best.overstated):.{places}f} "
            f"{word} it."
        )
        why = (
            "Whoever takes the best of many noisy trials takes luck along with merit (the winner's curse)."
            if best.overstated >= 0
            else "There is noise in both: the best of many noisy trials is no estimate (the winner's curse)."
        )
        return f"{told} {why}"


def winners_curse_info(summary: StudySummary, confirmed: Confirmed) -> WinnersCurseInfo:
    """Reads what is drawn from a search and its confirmation: the ranks that have scores in both."""
    searched = {rank.r: rank for rank in summary.ranks}
    smoothed = {frozen.r: frozen.smoothed for frozen in confirmed.confirmation.frozen}
    return WinnersCurseInfo(
        ranks=tuple(
            RankCurse(
                r=rank.r,
                search_max=max(searched[rank.r].values),
                search_trials=searched[rank.r].n,
                smoothed=smoothed[rank.r],
                mean=rank.mean,
                lower=rank.lower,
                upper=rank.upper,
                seeds=rank.n_seeds,
            )
            for rank in confirmed.verdict.per_rank
            if rank.mean is not None and rank.r in searched and rank.r in smoothed
        ),
        confidence=confirmed.verdict.confidence,
        base=summary.baseline if confirmed.verdict.base is None else confirmed.verdict.base,
    )


def winners_curse_figure(info: WinnersCurseInfo) -> go.Figure:
    """Draws it: from each rank's search maximum a line to its mean on fresh seeds."""
    figure = go.Figure()
    positions = list(range(len(info.ranks)))
    places, hover = info.decimals, reward_hover(info.decimals)
    for place, rank in enumerate(info.ranks):
        figure.add_shape(
            type="line",
            x0=place - ASIDE,
            x1=place + ASIDE,
            y0=rank.search_max,
            y1=rank.mean,
            line={"color": BAD, "width": 2, "dash": "dot"},
        )
    figure.add_scatter(
        x=[place - ASIDE for place in positions],
        y=[rank.search_max for rank in info.ranks],
        mode="markers+text",
        marker={"size": 12, "symbol": "triangle-down", "color": BAD},
        text=[f"{rank.overstated:+.{places}f}" for rank in info.ranks],
        textposition="top center",
        name="best search trial",
        hovertemplate=hover,
    )
    figure.add_scatter(
        x=[place + ASIDE for place in positions],
        y=[rank.mean for rank in info.ranks],
        error_y=interval(
            [rank.mean for rank in info.ranks],
            [rank.mean if rank.lower is None else rank.lower for rank in info.ranks],
            [rank.mean if rank.upper is None else rank.upper for rank in info.ranks],
            thickness=2,
            width=8,
        ),
        mode="markers",
        marker={"size": 11, "symbol": "diamond", "color": INK},
        name="mean on fresh seeds",
        hovertemplate=hover,
    )
    add_base_line(figure, info.base)
    drawn = [end for rank in info.ranks for end in (rank.search_max, rank.mean, rank.lower, rank.upper)]
    ends = [end for end in (info.base, *drawn) if end is not None]
    room = 0.12 * (max(ends) - min(ends)) or 0.1 * abs(max(ends)) or 0.1
    figure.update_yaxes(range=[min(ends) - room / 2, max(ends) + room])
    figure.update_xaxes(
        tickvals=positions, ticktext=[str(rank.r) for rank in info.ranks], range=[-0.5, len(positions) - 0.5]
    )
    return styled(figure, x="rank r", y="held-out reward", height=380)
