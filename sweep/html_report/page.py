"""Puts a study's figures, tables and settings on one page that opens offline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from objectives.figures import decimals
from sweep.answer.paste import ceiling_saving, paste_verdict
from sweep.answer.spending import check_price, device_seconds
from sweep.answer.target_sets import same_points, target_set_results
from sweep.errors import UsageError
from sweep.html_report.contents import Evidence, Report
from sweep.html_report.downloads import downloads
from sweep.html_report.glance import glance
from sweep.html_report.method import method
from sweep.plots.curves import MAX_LINES
from sweep.storage import attributes
from sweep.text import count, decimals_for, figure, money, size, storable

if TYPE_CHECKING:
    import optuna


def write_page(report: Report, path: Path, *, price: float | None = None) -> Path:
    """Writes the report as one HTML file.

    Args:
        report: What it shows.
        path: The file.
        price: Money per device hour, in any currency; without it the page says nothing of money.

    Raises:
        UsageError: where it cannot be written, or the price is no amount.
    """
    if path.suffix.lower() not in (".html", ".htm"):  # a typing slip must not cost the storage
        raise UsageError(f"--output {path}: the report is HTML; allowed: a name that ends in .html")
    page = report_html(report, price=price)
    try:
        path.write_text(storable(page), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--output {path}: cannot be written: {error.strerror}") from error
    return path


def report_html(report: Report, *, price: float | None = None) -> str:
    """The report as HTML, plotly.js embedded.

    Args:
        report: What it shows.
        price: Money per device hour.

    Raises:
        UsageError: where the price is no amount.
    """
    check_price(price)
    evidence = report.evidence
    environment = Environment(
        loader=PackageLoader("sweep.html_report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    places = _decimals(evidence)
    environment.filters |= {
        "size": size,
        "count": count,
        "money": money,
        "significant": lambda value: figure(value, 3),
        "reward": lambda value: f"{value:.{places}f}",
        "signed_reward": lambda value: f"{value:+.{places}f}",
    }
    return environment.get_template("page.html").render(
        report=report,
        summary=evidence.summary,
        verdict=None if evidence.confirmed is None else evidence.confirmed.verdict,
        horizon="" if evidence.confirmed is None else evidence.confirmed.horizon.warning,
        **_answer(evidence),
        figures={name: _embed(drawn, name) for name, drawn in report.figures().items()},
        glance=glance(report, price=price),
        price=price,
        target_sets=target_set_results(evidence.summary),
        same_points=same_points(evidence.summary),
        downloads=downloads(evidence),
        rewards=_reward_rows(evidence.trials),
        seconds={t.number: device_seconds(t) for t in evidence.trials if attributes.COST in t.user_attrs},
        method=method(evidence),
        max_lines=MAX_LINES,
        plotly_js=get_plotlyjs(),
    )


def _decimals(evidence: Evidence) -> int:
    """With which the page's rewards are told apart."""
    if evidence.confirmed is None:
        return evidence.summary.decimals
    verdict = evidence.confirmed.verdict
    ends = [end for rank in verdict.per_rank for end in (rank.mean, rank.lower, rank.upper)]
    return max(evidence.summary.decimals, decimals_for([verdict.base, *ends]))


def _answer(evidence: Evidence) -> dict[str, str]:
    """The calls to paste and what they save; empty without a rank to paste."""
    if evidence.confirmed is None or (verdict := evidence.confirmed.verdict).r is None:
        return {"calls": "", "saving": ""}
    return {
        "calls": paste_verdict(evidence.config, evidence.confirmed),
        "saving": ceiling_saving(evidence.config, r=verdict.r),
    }


def _reward_rows(trials: Sequence[optuna.trial.FrozenTrial]) -> list[tuple[int, str, float, float | None, int]]:
    """Rank, reward function, its mean and spread over the last step of the rank's trials, averaged, and decimals.

    The spread is None where no trial has one: a single completion with a reward has a mean, and no spread.
    """
    means: dict[tuple[int, str], list[float]] = defaultdict(list)
    spreads: dict[tuple[int, str], list[float]] = defaultdict(list)
    for trial in trials:
        for key, values in trial.user_attrs.get(attributes.CURVE, {}).items():
            statistic, _, name = key.partition(":")
            if name and values[-1] is not None and math.isfinite(values[-1]):
                (means if statistic == "reward" else spreads)[trial.params["r"], name].append(values[-1])
    rows = []
    for (r, name), own in sorted(means.items()):
        spread = fmean(spreads[r, name]) if (r, name) in spreads else None
        rows.append((r, name, fmean(own), spread, decimals(spread or 0.0)))
    return rows


def _embed(drawn: go.Figure, name: str) -> str:
    # The page holds plotly.js once, for all of its figures.
    html: str = drawn.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False, "responsive": True}
    )
    return html
