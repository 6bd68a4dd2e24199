"""Held-out reward by rank: every trial a mark, every rank its mean, the base policy a line."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.colors import qualitative

from sweep.plots.style import INK, add_base_line, styled
from sweep.storage.summary import StudySummary, TrialSummary
from sweep.text import decimals_for

COLORS = qualitative.Plotly
MANY = 200
"""Trials above which marks are small and spread sideways, or they would cover one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByRankInfo:
    """What is drawn.

    `trials` holds those with a value; `means` each rank, ascending, with the mean of its trials that did not collapse,
    None where all did.
    """

    trials: tuple[TrialSummary, ...]
    means: tuple[tuple[int, float | None], ...]
    baseline: float | None
    reference: float | None = None
    """Full fine-tuning's best mean."""

    @property
    def decimals(self) -> int:
        """With which its rewards are told apart."""
        return decimals_for([self.baseline, self.reference, *(trial.value for trial in self.trials)])


def by_rank_info(summary: StudySummary) -> ByRankInfo:
    """Reads what is drawn from a study."""
    return ByRankInfo(
        trials=tuple(trial for trial in summary.trials if trial.value is not None),
        means=tuple((rank.r, rank.mean_without_collapsed) for rank in summary.ranks),
        baseline=summary.baseline,
        reference=None if summary.reference is None else summary.reference.best.mean,
    )


def by_rank_figure(info: ByRankInfo) -> go.Figure:
    """Draws it. Ranks stand side by side at equal distances; within a rank, learning rates do."""
    figure = go.Figure()
    places = {r: place for place, (r, _) in enumerate(info.means)}
    rates = sorted({trial.learning_rate or 0.0 for trial in info.trials})
    width = 0.5 / max(len(rates), 1)
    many = len(info.trials) > MANY
    for i, rate in enumerate(rates):
        learned = any(t.learning_rate == rate and not t.collapsed for t in info.trials)
        center = (i - (len(rates) - 1) / 2) * width
        for collapsed in (False, True):
            trials = [t for t in info.trials if t.learning_rate == rate and t.collapsed == collapsed]
            if trials:
                figure.add_scatter(
                    x=[places[t.r or 0] + center + (_scatter(t.number) * width * 0.6 if many else 0) for t in trials],
                    y=[t.value for t in trials],
                    mode="markers",
                    marker={
                        "size": 5 if many else 11,
                        "symbol": "x" if collapsed else "circle",
                        "opacity": 0.5 if many else 0.8,
                        "color": COLORS[i % len(COLORS)],
                    },
                    name=f"{rate:g}",
                    legendgroup=f"{rate:g}",
                    # One entry for a rate, or they leave no room for the plot on a phone.
                    showlegend=not (collapsed and learned),
                    customdata=[[t.number, t.alpha, t.seed, t.reason or ""] for t in trials],
                    hovertemplate=f"trial %{{customdata[0]}}: %{{y:.{info.decimals}f}}<br>"
                    "alpha %{customdata[1]}, seed %{customdata[2]}"
                    "<br>%{customdata[3]}<extra></extra>",
                )
    for r, mean in info.means:
        if mean is None:
            continue
        figure.add_shape(
            type="line", x0=places[r] - 0.38, x1=places[r] + 0.38, y0=mean, y1=mean, line={"color": INK, "width": 3}
        )
    add_base_line(figure, info.baseline)
    add_base_line(figure, info.reference, named="full fine-tuning")
    figure.update_layout(legend_itemsizing="constant", legend_title_text="learning rate")
    figure.update_xaxes(tickvals=list(places.values()), ticktext=[str(r) for r in places])
    return styled(figure, x="rank r", y="held-out reward")


def _scatter(number: int) -> float:
    """A trial's own offset in [-0.5, 0.5), the same at every drawing: multiples of the golden ratio spread evenly."""
    return number * 0.618034 % 1 - 0.5
