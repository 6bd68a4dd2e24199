"""How the best learning rate moves with rank: what was tried, and the fitted lines."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

import plotly.graph_objects as go

from sweep.confirmation.outcome import search_points
from sweep.plots.style import BAD, GOOD, INK, styled
from sweep.statistics.best_rate import BestRates, RateLine, best_rates
from sweep.storage.summary import StudySummary
from sweep.study.file import SpaceSection
from sweep.text import decimals_for

FIXED, BY_R = "alpha fixed", "alpha proportional to r"


@dataclass(frozen=True, slots=True, kw_only=True)
class BestRateInfo:
    """What is drawn. `tried` has each rank's mean score at each rate, over the trials that did not collapse."""

    tried: dict[int, dict[float, float]]
    found: BestRates
    rslora: bool = False
    """Whether adapters were multiplied by alpha / sqrt(r)."""

    @property
    def lines(self) -> dict[str, RateLine]:
        """Those that were found, by name."""
        both = {FIXED: self.found.fixed_alpha, BY_R: self.found.alpha_by_r}
        return {name: line for name, line in both.items() if line is not None}

    @property
    def sentence(self) -> str:
        """The slopes, in words, or why there is none."""
        if not self.lines:
            return f"How the best learning rate moves with rank is not known: {self.found.why_none}."
        each = [
            f"as r^{slope.estimate:.2f} with {name} (95 % interval {slope.lower:.2f} to {slope.upper:.2f})"
            for name, slope in ((name, line.slope) for name, line in self.lines.items())
        ]
        why = f"; {self.found.why_none}" if self.found.why_none else ""
        which = "Under rsLoRA, the best" if self.rslora else "The best"
        return f"{which} learning rate goes {', '.join(each)}{why}."


def best_rate_info(summary: StudySummary) -> BestRateInfo:
    """Reads what is drawn from a study."""
    points, space = search_points(summary), summary.config.space
    cells: dict[int, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if not point.collapsed:
            cells[point.r][point.learning_rate].append(point.score)
    return BestRateInfo(
        tried={r: {rate: fmean(own) for rate, own in sorted(rates.items())} for r, rates in sorted(cells.items())},
        found=BestRates(why_none=why) if (why := _why_not_one(space)) else best_rates(points),
        rslora=space.use_rslora == (True,),
    )


def _why_not_one(space: SpaceSection) -> str:
    """Why trials have no best rate in common; empty where they may."""
    if len(space.use_rslora) > 1:
        return "trials are of two scalings, with rsLoRA and without"
    sets = space.target_modules or ()
    return f"trials are of {len(sets)} sets of target modules" if len(sets) > 1 else ""


def best_rate_figure(info: BestRateInfo) -> go.Figure:
    """Draws it, both axes logarithmic."""
    figure = go.Figure()
    for (name, line), color in zip(info.lines.items(), (GOOD, BAD), strict=False):
        _add_line(figure, line, name, color)
    places = decimals_for([score for rates in info.tried.values() for score in rates.values()])
    for r, rates in info.tried.items():
        best, low = max(rates, key=rates.__getitem__), min(rates.values())
        spread = rates[best] - low or 1.0  # all alike: nothing was learned, or everything
        figure.add_scatter(
            x=[r] * len(rates),
            y=list(rates),
            mode="markers",
            marker={
                "color": INK,
                "opacity": 0.8,
                "symbol": ["diamond" if rate == best else "circle" for rate in rates],
                "size": [14 if rate == best else 5 + 6 * (score - low) / spread for rate, score in rates.items()],
            },
            customdata=list(rates.values()),
            hovertemplate=f"r={r}, learning rate %{{y:g}}: mean %{{customdata:.{places}f}}<extra></extra>",
            showlegend=False,
        )
    styled(figure, x="rank r", y="learning rate")
    levels = sorted({rate for rates in info.tried.values() for rate in rates})
    figure.update_xaxes(type="log", tickvals=list(info.tried), ticktext=[str(r) for r in info.tried])
    margin = math.log10(levels[-1] / levels[0]) * 0.15 + 0.1
    # Intervals may go far beyond: what was tried stays legible.
    figure.update_yaxes(
        type="log", tickvals=levels, ticktext=[f"{rate:g}" for rate in levels],
        range=[math.log10(levels[0]) - margin, math.log10(levels[-1]) + margin],
    )  # fmt: skip
    return figure


def _add_line(figure: go.Figure, line: RateLine, name: str, color: str) -> None:
    ranks, best = [r for r, _ in line.rates], [rate for _, rate in line.rates]
    figure.add_scatter(
        x=ranks + ranks[::-1],
        y=[rate.lower for rate in best] + [rate.upper for rate in best][::-1],
        mode="lines", line={"width": 0}, fill="toself", fillcolor=color, opacity=0.15,
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    figure.add_scatter(
        x=ranks,
        y=[rate.estimate for rate in best],
        mode="lines",
        line={"color": color, "width": 3},
        name=name,
        hovertemplate=f"{name}, r=%{{x}}: best rate %{{y:.2g}}<extra></extra>",
    )
