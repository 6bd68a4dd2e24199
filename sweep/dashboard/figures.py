"""Our plots as the dashboard shows them: each in a card of its own, so with a title."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from sweep.plots.by_rank import by_rank_figure, by_rank_info
from sweep.plots.confirmed import confirmed_figure, confirmed_info
from sweep.plots.curves import curves_figure, curves_info
from sweep.plots.gains import gains_figure, gains_info
from sweep.plots.heat import heat_figure, heat_info
from sweep.plots.style import GRID, INK
from sweep.storage.trials import wanted_trials

if TYPE_CHECKING:
    import optuna

    from sweep.confirmation.outcome import Confirmed
    from sweep.storage.summary import StudySummary

Figures = dict[str, go.Figure]
"""By the id that a figure keeps in storage, so that a later one takes its place."""


def search_figures(study: optuna.Study, summary: StudySummary) -> Figures:
    """What the search has come to; nothing before any trial has."""
    if not summary.ranks:
        return {}
    by_learning_rate, by_alpha = (heat_figure(heat_info(summary, name)) for name in ("learning_rate", "alpha"))
    return {
        "by-rank": _titled(by_rank_figure(by_rank_info(summary)), "Search: held-out reward by rank"),
        "by-learning-rate": _titled(by_learning_rate, "Search: mean reward by rank and learning rate"),
        "by-alpha": _titled(by_alpha, "Search: mean reward by rank and alpha"),
        "curves": _curves(study, "Search: learning curves by rank", base=summary.baseline),
    }


def confirmation_figures(study: optuna.Study, confirmed: Confirmed) -> Figures:
    """What the confirmation has come to; gains where the base policy was scored under every seed."""
    gains = gains_info(confirmed)
    figures = {} if gains is None else {"gains": _titled(gains_figure(gains), "Confirmation: gain by rank")}
    return figures | {
        "confirmed": _titled(confirmed_figure(confirmed_info(confirmed)), "Confirmation: held-out reward by rank"),
        "confirmed-curves": _curves(study, "Confirmation: learning curves by rank", base=confirmed.verdict.base),
    }


def _curves(study: optuna.Study, title: str, *, base: float | None) -> go.Figure:
    return _titled(curves_figure(curves_info(wanted_trials(study), base=base)), title)


def _titled(figure: go.Figure, title: str) -> go.Figure:
    """Gives a figure a title under the dashboard's tool bar, and moves its legend out of the title's way."""
    return figure.update_layout(
        title={"text": title, "font_size": 16, "x": 0.02, "xanchor": "left", "y": 0.92, "yanchor": "top"},
        # The dashboard's cards are that high.
        height=450,
        margin_t=75,
        legend={"y": -0.2, "yanchor": "top"},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GRID, "activecolor": INK},
    )
