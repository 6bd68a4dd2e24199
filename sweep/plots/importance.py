"""Which parameter matters: fANOVA over the search, as Optuna computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from sweep.plots.style import BAD, INK, styled
from sweep.storage import attributes

if TYPE_CHECKING:
    import optuna

FEWEST_TRIALS = 10
"""Below so many, the forest behind fANOVA fits little but noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Importances:
    """Main effects on held-out reward relative to each other, adding up to 1, and the trials they rest on."""

    trials: int
    shares: dict[str, float]
    """By parameter; empty where there is no answer."""
    why_none: str = ""
    """Empty where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportanceInfo:
    """What is drawn: importance over every trial that has a score, and over those that did not collapse."""

    every: Importances
    learned: Importances
    method: str = "fANOVA (Hutter et al., 2014), Optuna's, 64 trees, seed 0"

    @property
    def parts(self) -> dict[str, Importances]:
        """What there is to tell apart, by name: where no trial collapsed, both are the same."""
        if self.every.trials == self.learned.trials:
            return {"every trial": self.every}
        return {"trials that did not collapse": self.learned, "every trial": self.every}

    @property
    def notes(self) -> tuple[str, ...]:
        """Why a part has no answer, in words."""
        return tuple(
            f"Over {name}: no importance, as {part.why_none}." for name, part in self.parts.items() if part.why_none
        )


def importance_info(trials: Sequence[optuna.trial.FrozenTrial]) -> ImportanceInfo:
    """Computes what is drawn from the search's trials. A pruned trial counts with the score that it had."""
    import optuna

    scores = [(trial, score.sampled) for trial in trials if (score := attributes.last_score(trial.user_attrs))]
    # A study in memory: in storage, pruned trials have no value, and Optuna would read all of it again.
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        optuna.trial.create_trial(
            params=trial.params,
            distributions=trial.distributions,
            value=score,
            user_attrs={attributes.COLLAPSED: bool(trial.user_attrs.get(attributes.COLLAPSED))},
        )
        for trial, score in scores
        if math.isfinite(score)
    )
    return ImportanceInfo(every=_importances(study, collapsed=True), learned=_importances(study, collapsed=False))


def importance_figure(info: ImportanceInfo) -> go.Figure:
    """Draws it, the parameter that matters most among trials that learned on top."""
    figure = go.Figure()
    order = sorted(info.every.shares | info.learned.shares, key=lambda name: info.learned.shares.get(name, 0.0))
    # Plotly draws horizontal bars of a group from the bottom up.
    for (name, importances), color in reversed(list(zip(info.parts.items(), (INK, BAD), strict=False))):
        if importances.shares:
            shares = [importances.shares.get(parameter, 0.0) for parameter in order]
            figure.add_bar(
                x=shares,
                y=[parameter.replace("_", " ") for parameter in order],
                orientation="h",
                name=f"{name} (n={importances.trials})",
                marker={"color": color},
                text=[f"{share:.0%}" for share in shares],
                textposition="outside",
                cliponaxis=False,
                showlegend=True,
                hoverinfo="skip",
            )
    figure.update_xaxes(tickformat=".0%", range=[0, 1.08])
    figure.update_yaxes(ticksuffix="  ")
    figure.update_layout(barmode="group", bargap=0.25, legend_traceorder="reversed")
    return styled(figure, x="relative importance", y="", height=150 + 60 * len(order))


def _importances(study: optuna.Study, *, collapsed: bool) -> Importances:
    """Over all of a study's trials, or those alone that did not collapse."""
    import optuna

    def target(trial: optuna.trial.FrozenTrial) -> float:
        # fANOVA leaves out what is not finite.
        left_out = trial.user_attrs[attributes.COLLAPSED] and not collapsed
        return math.nan if left_out or trial.value is None else trial.value

    counted = [trial for trial in study.get_trials(deepcopy=False) if math.isfinite(target(trial))]
    why_none = _why_none(counted, [target(trial) for trial in counted])
    if why_none:
        return Importances(trials=len(counted), shares={}, why_none=why_none)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, target=target)
    except RuntimeError:
        # What Optuna 5.0 raises where no tree splits: the values differ by less than a tree can see.
        return Importances(trials=len(counted), shares={}, why_none="held-out rewards hardly differ")
    return Importances(trials=len(counted), shares={name: float(share) for name, share in shares.items()})


def _why_none(trials: Sequence[optuna.trial.FrozenTrial], values: Sequence[float]) -> str:
    if len(trials) < FEWEST_TRIALS:
        return f"{len(trials)} trials are too few to tell; from {FEWEST_TRIALS} on"
    if len(set(values)) == 1:
        return f"all {len(values)} trials have the same held-out reward"
    if len({tuple(sorted(trial.params.items())) for trial in trials}) == 1:
        return f"all {len(trials)} trials have the same parameters"
    return ""
