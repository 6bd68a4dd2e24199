"""The whole argument: what each rank gains over the base policy on fresh seeds, and the gain that the answer needs."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.confirmation.outcome import Confirmed
from sweep.plots.style import BAD, GOOD, INK, interval, styled
from sweep.statistics.paired import mean_interval
from sweep.statistics.verdict import RankSummary, Verdict
from sweep.text import decimals_for, percent

MARK = "r*"
"""Stands over the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankGain:
    """One rank: its mean gain and the two-sided t interval of it; None with fewer than two seeds."""

    r: int
    gain: float
    lower: float | None
    upper: float | None
    seeds: int
    kept: float | None
    """As a share of the best gain."""
    judged: bool
    """False for a rank that is shown to collapse too often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GainsInfo:
    """What is drawn, by ascending rank."""

    ranks: tuple[RankGain, ...]
    needed: float | None
    """The mean gain that counts as good as the best; None where it is a share of a gain that nobody has."""
    rule: str
    """What `needed` is, in words."""
    answer: int | None
    confidence: float


def gains_info(confirmed: Confirmed) -> GainsInfo | None:
    """Reads what is drawn from a confirmation; None where no rank has a gain, as without the base policy's scores."""
    data, verdict = confirmed.confirmation, confirmed.verdict
    seeds = {frozen.r: data.gains[i][data.alive[i]].tolist() for i, frozen in enumerate(data.frozen)}
    ranks = [
        _rank_gain(rank, rank.gain, seeds[rank.r], verdict.confidence)
        for rank in verdict.per_rank
        if rank.gain is not None
    ]
    if not ranks:
        return None
    # A rank that left the ladder is nobody's rival, however high its gain.
    needed, rule = _needed(verdict, max((rank.gain for rank in ranks if rank.judged), default=0.0))
    return GainsInfo(ranks=tuple(ranks), needed=needed, rule=rule, answer=verdict.r, confidence=verdict.confidence)


def _rank_gain(rank: RankSummary, gain: float, by_seed: list[float], confidence: float) -> RankGain:
    lower, upper = mean_interval(by_seed, confidence) if len(by_seed) > 1 else (None, None)
    return RankGain(
        r=rank.r, gain=gain, lower=lower, upper=upper, seeds=len(by_seed), kept=rank.kept, judged=rank.judged
    )


def _needed(verdict: Verdict, best: float) -> tuple[float | None, str]:
    """What a mean gain has to reach, and the same in words. Without a gain there is no share of it."""
    if verdict.keep is not None:
        return best * verdict.keep if best > 0 else None, f"{percent(verdict.keep)} of the best gain"
    return best - (verdict.tolerance or 0.0), f"the best gain less {verdict.tolerance:g}"


def gains_figure(info: GainsInfo) -> go.Figure:
    """Draws it, ranks side by side at equal distances. A rank that is not judged is hollow."""
    figure = go.Figure()
    ends = [end for rank in info.ranks for end in (rank.gain, rank.lower, rank.upper) if end is not None]
    places = decimals_for([0.0, info.needed, *ends])
    for place, rank in enumerate(info.ranks):
        color = GOOD if rank.r == info.answer else INK
        _add_rank(figure, place, rank, color=color, places=places)
        if rank.r == info.answer:
            top = rank.gain if rank.upper is None else rank.upper
            look = {"font_color": GOOD, "font_size": 16, "showarrow": False, "yshift": 14}
            figure.add_annotation(x=place, y=top, text=f"<b>{MARK}</b>", **look)
    edges = [-0.6, len(info.ranks) - 0.4]
    _add_line(figure, edges, 0.0, name="base policy", color=INK, dash="dot")
    if info.needed is not None:
        _add_line(figure, edges, info.needed, name=info.rule, color=BAD, dash="dash")
    low, high = min(0.0, *ends), max(0.0, info.needed or 0.0, *ends)
    # Room for the mark over the highest interval.
    room = 0.12 * (high - low) or 0.1
    labels = [str(rank.r) for rank in info.ranks]
    figure.update_yaxes(range=[low - room, high + room])
    figure.update_xaxes(tickvals=list(range(len(labels))), ticktext=labels, range=edges)
    return styled(figure, x="rank r", y="gain over the base policy")


def _add_line(figure: go.Figure, x: list[float], y: float, *, name: str, color: str, dash: str) -> None:
    """Named in the legend: written beside the line, its name would cover an interval on a phone."""
    figure.add_scatter(
        x=x, y=[y, y], mode="lines", name=name, line={"color": color, "dash": dash, "width": 2}, hoverinfo="skip"
    )


def _add_rank(figure: go.Figure, place: int, rank: RankGain, *, color: str, places: int) -> None:
    bars = None
    if rank.lower is not None and rank.upper is not None:
        bars = interval([rank.gain], [rank.lower], [rank.upper], thickness=2, width=8, color=color)
    kept = "" if rank.kept is None else f", {rank.kept:.0%} of the best gain"
    figure.add_scatter(
        x=[place],
        y=[rank.gain],
        error_y=bars,
        mode="markers",
        marker={"size": 13, "symbol": "diamond" if rank.judged else "diamond-open", "color": color},
        hovertemplate=f"r={rank.r}: gain %{{y:.{places}f}}{kept}, {rank.seeds} seeds<extra></extra>",
        showlegend=False,
    )
