"""Share of collapsed trials by alpha x learning rate: the size of an update, and where it gets too large."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import plotly.graph_objects as go

from sweep.plots.style import BAD, INK, interval, styled
from sweep.statistics.collapse import collapse_bounds
from sweep.storage.summary import StudySummary

BOUND_CONFIDENCE = 0.95
"""Of either end of a drawn interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductCollapses:
    """The trials of all ranks with one alpha x learning rate."""

    product: float
    n: int
    collapsed: int
    by_rank: tuple[tuple[int, int, int], ...]
    """Rank, trials, and how many of them collapsed, by ascending rank."""

    @property
    def share(self) -> float:
        """Of the trials, those that collapsed; in [0, 1]."""
        return self.collapsed / self.n


@dataclass(frozen=True, slots=True, kw_only=True)
class CollapseAxisInfo:
    """What is drawn, by ascending product, and the limit that the study declared."""

    products: tuple[ProductCollapses, ...]
    limit: float

    @property
    def sentence(self) -> str:
        """Where collapse starts, in words."""
        n, collapsed = sum(p.n for p in self.products), sum(p.collapsed for p in self.products)
        if not collapsed:
            return f"None of the {n} trials collapsed."
        first = next(i for i, p in enumerate(self.products) if p.collapsed)
        gentle, rough = self.products[:first], self.products[first:]
        total, start = sum(p.n for p in rough), rough[0].product
        if not gentle:
            return f"{collapsed} of {n} trials collapsed ({collapsed / n:.0%}), the gentlest at a product of {start:g}."
        return (
            f"None of {n - total} trials collapsed with alpha x learning rate up to {gentle[-1].product:g}; from "
            f"{start:g} on, {collapsed} of {total} did ({collapsed / total:.0%})."
        )


def collapse_axis_info(summary: StudySummary) -> CollapseAxisInfo:
    """Reads what is drawn from a study."""
    cells: dict[float, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for trial in summary.trials:
        if trial.value is not None and trial.r and trial.alpha and trial.learning_rate:
            # Equal products of different factors differ in their last bits.
            product = float(f"{trial.alpha * trial.learning_rate:.6g}")
            cells[product][trial.r].append(trial.collapsed)
    products = tuple(
        ProductCollapses(
            product=product,
            n=sum(map(len, ranks.values())),
            collapsed=sum(map(sum, ranks.values())),
            by_rank=tuple((r, len(trials), sum(trials)) for r, trials in sorted(ranks.items())),
        )
        for product, ranks in sorted(cells.items())
    )
    return CollapseAxisInfo(products=products, limit=summary.config.verdict.collapse_limit)


def collapse_axis_figure(info: CollapseAxisInfo) -> go.Figure:
    """Draws it, with exact intervals. Products are drawn to scale, each doubling equally wide."""
    bounds = [collapse_bounds(p.collapsed, p.n, BOUND_CONFIDENCE) for p in info.products]
    shares = [p.share for p in info.products]
    figure = go.Figure(
        go.Scatter(
            x=[p.product for p in info.products],
            y=shares,
            error_y=interval(
                shares, [low for low, _ in bounds], [high for _, high in bounds], thickness=1.5, width=5, color=INK
            ),
            mode="markers",
            marker={"size": 12, "color": [BAD if share > info.limit else INK for share in shares]},
            customdata=[[_by_rank_text(p)] for p in info.products],
            hovertemplate="alpha x learning rate %{x:g}: %{y:.0%}<br>%{customdata[0]}<extra></extra>",
            cliponaxis=False,
            showlegend=False,
        )
    )
    figure.add_hline(
        y=info.limit, line_dash="dot", line_color=INK, annotation_text="declared limit", annotation_position="top left"
    )
    figure.update_xaxes(
        type="log",
        tickvals=[p.product for p in info.products],
        # Beside the marks, n would cover the next one on a phone.
        ticktext=[f"{p.product:g}<br>n={p.n}" for p in info.products],
    )
    figure.update_yaxes(range=[-0.04, 1.06], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    return styled(figure, x="alpha x learning rate", y="trials that collapsed", height=360)


def _by_rank_text(product: ProductCollapses) -> str:
    return "<br>".join(f"r={r}: {collapsed} of {n}" for r, n, collapsed in product.by_rank)
