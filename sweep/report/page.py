"""Puts a study's figures, tables and settings on one page that opens offline."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.resources import files
from statistics import fmean
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from sweep import record
from sweep.confirm import Confirmed
from sweep.plots.by_rank import by_rank_figure, by_rank_info
from sweep.plots.confirmed import confirmed_figure, confirmed_info
from sweep.plots.curves import curves_figure, curves_info
from sweep.plots.heat import heat_figure, heat_info
from sweep.snippet import ceiling_saving, paste_calls
from sweep.study_file import StudyFile
from sweep.summary import summarize

if TYPE_CHECKING:
    import optuna


def report_html(study: optuna.Study, confirmed: Confirmed | None) -> str:
    """The report as HTML, plotly.js embedded.

    Args:
        study: The search.
        confirmed: What its confirmation has come to, where it has one: it makes the first screen.
    """
    summary = summarize(study)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("sweep.report") / "page.html").read_text(encoding="utf-8"))
    return template.render(
        summary=summary,
        verdict=None if confirmed is None else confirmed.verdict,
        **_answer(summary.config, confirmed),
        config=_settings_rows(summary.config),
        rewards=_reward_rows(study),
        facts=_flatten(summary.facts),
        plotly_js=get_plotlyjs(),
        by_rank=_embed(by_rank_figure(by_rank_info(summary)), "by-rank"),
        by_learning_rate=_embed(heat_figure(heat_info(summary, "learning_rate")), "by-learning-rate"),
        by_alpha=_embed(heat_figure(heat_info(summary, "alpha")), "by-alpha"),
        curves=_embed(curves_figure(curves_info(study)), "curves"),
    )


def _answer(config: dict[str, Any], confirmed: Confirmed | None) -> dict[str, str]:
    """The parts of the first screen that a verdict fills; empty before there is one."""
    if confirmed is None:
        return {"confirmed": "", "horizon": "", "calls": "", "saving": ""}
    verdict, study = confirmed.verdict, StudyFile.model_validate(config)
    calls = saving = ""
    if verdict.r is not None and verdict.alpha is not None:
        calls = paste_calls(study, r=verdict.r, alpha=int(verdict.alpha))
        saving = ceiling_saving(study, r=verdict.r)
    return {
        "confirmed": _embed(confirmed_figure(confirmed_info(confirmed)), "confirmed"),
        "horizon": confirmed.horizon.warning,
        "calls": calls,
        "saving": saving,
    }


def _reward_rows(study: optuna.Study) -> list[tuple[int, str, float, float]]:
    """Rank, reward function, and its mean and spread over the last step of the rank's trials, averaged."""
    found: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    for trial in study.get_trials(deepcopy=False):
        curve = trial.user_attrs.get(record.CURVE, {})
        for key in curve:
            name = key.removeprefix("reward:")
            if name != key and curve[key][-1] is not None:
                found[trial.params["r"], name].append((curve[key][-1], curve[f"reward_std:{name}"][-1] or 0.0))
    return [
        (r, name, fmean(mean for mean, _ in pairs), fmean(std for _, std in pairs))
        for (r, name), pairs in sorted(found.items())
    ]


def _embed(figure: go.Figure, name: str) -> str:
    html: str = figure.to_html(
        full_html=False, include_plotlyjs=False, div_id=name, config={"displayModeBar": False, "responsive": True}
    )
    return html


def _settings_rows(config: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f"{section}.{key}", json.dumps(value)) for section, keys in config.items() for key, value in keys.items()]


def _flatten(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += [(str(name), str(item)) for name, item in value.items()]
        else:
            rows.append((key.replace("_", " "), f"{value:.1f}" if isinstance(value, float) else str(value)))
    return rows
