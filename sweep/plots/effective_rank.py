"""How many of its ranks each rank's update uses, by kind of module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.colors import qualitative

from objectives.trial.messages import EffectiveRank
from sweep.plots.style import INK, styled
from sweep.storage import attributes

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class RankUse:
    """One rank: what its trials' updates use, averaged over them, by kind of module."""

    r: int
    trials: int
    by_kind: dict[str, EffectiveRank]

    @property
    def mean(self) -> EffectiveRank:
        """Over the kinds of modules, each of the same weight."""
        return EffectiveRank.mean(self.by_kind.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRankInfo:
    """What is drawn, by ascending rank. Trials that collapsed or were ended early are left out."""

    ranks: tuple[RankUse, ...]

    @property
    def sentence(self) -> str:
        """What each rank uses, in words."""
        each = ", ".join(f"{rank.mean.energy:.1f} at r={rank.r}" for rank in self.ranks)
        return f"Ranks that hold 90 % of the energy of an update, on average over modules: {each}."


def effective_rank_info(trials: Sequence[optuna.trial.FrozenTrial]) -> EffectiveRankInfo:
    """Reads what is drawn from trials."""
    found: dict[int, list[dict[str, EffectiveRank]]] = defaultdict(list)
    for trial in trials:
        own = attributes.effective_ranks(trial.user_attrs)
        if own and attributes.last_score(trial.user_attrs) is not None:
            found[trial.params["r"]].append(own)
    return EffectiveRankInfo(
        ranks=tuple(RankUse(r=r, trials=len(own), by_kind=_by_kind(own)) for r, own in sorted(found.items()))
    )


def _by_kind(trials: Sequence[dict[str, EffectiveRank]]) -> dict[str, EffectiveRank]:
    kinds = dict.fromkeys(kind for trial in trials for kind in trial)
    return {kind: EffectiveRank.mean([trial[kind] for trial in trials if kind in trial]) for kind in kinds}


def effective_rank_figure(info: EffectiveRankInfo) -> go.Figure:
    """Draws it, a line for each kind of module, under the line of all ranks."""
    figure = go.Figure()
    ranks = [rank.r for rank in info.ranks]
    figure.add_scatter(
        x=ranks, y=ranks, mode="lines", name="all of them", line={"color": INK, "dash": "dot"}, hoverinfo="skip"
    )
    for i, kind in enumerate(dict.fromkeys(kind for rank in info.ranks for kind in rank.by_kind)):
        own = [(rank, rank.by_kind[kind]) for rank in info.ranks if kind in rank.by_kind]
        figure.add_scatter(
            x=[rank.r for rank, _ in own],
            y=[use.energy for _, use in own],
            mode="lines+markers",
            name=kind.removesuffix("_proj"),
            marker={"color": qualitative.Plotly[i % len(qualitative.Plotly)]},
            customdata=[[rank.trials, use.stable] for rank, use in own],
            hovertemplate=f"{kind}, r=%{{x}}: %{{y:.1f}}<br>stable rank %{{customdata[1]:.1f}}, "
            "%{customdata[0]} trials<extra></extra>",
        )
    styled(figure, x="rank r", y="ranks that hold 90 % of the energy")
    figure.update_xaxes(type="log", tickvals=ranks, ticktext=[str(r) for r in ranks])
    figure.update_yaxes(type="log", tickvals=[1, 2, 4, 8, 16, 32, 64, 128, 256])
    return figure
