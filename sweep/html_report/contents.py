"""What a report shows, read from storage once: the page, the images and the notebook all draw from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from rich.console import Group, RenderableType
from rich.text import Text

from sweep.answer.costs import BestConfigurations, best_configurations, rank_costs
from sweep.answer.spending import Spending, spending
from sweep.confirmation.naming import confirmation_study
from sweep.confirmation.outcome import Confirmed, read_confirmation
from sweep.confirmation.shown import OtherVerdict, other_verdicts
from sweep.plots.best_rate import BestRateInfo, best_rate_figure, best_rate_info
from sweep.plots.by_rank import ByRankInfo, by_rank_figure, by_rank_info
from sweep.plots.collapse_axis import CollapseAxisInfo, collapse_axis_figure, collapse_axis_info
from sweep.plots.confirmed import ConfirmedInfo, confirmed_figure, confirmed_info
from sweep.plots.curves import CurvesInfo, curves_figure, curves_info
from sweep.plots.effective_rank import EffectiveRankInfo, effective_rank_figure, effective_rank_info
from sweep.plots.gains import GainsInfo, gains_figure, gains_info
from sweep.plots.guards import GuardInfo, guard_figure, guards_info
from sweep.plots.heat import HeatInfo, heat_figure, heat_info
from sweep.plots.importance import ImportanceInfo, importance_figure, importance_info
from sweep.plots.pareto import COSTS, ParetoInfo, pareto_figure, pareto_info
from sweep.plots.paths import PathsInfo, paths_figure, paths_info
from sweep.plots.winners_curse import WinnersCurseInfo, winners_curse_figure, winners_curse_info
from sweep.storage.database import open_storage, open_study
from sweep.storage.summary import StudySummary, summarize
from sweep.storage.trials import wanted_trials
from sweep.study.file import StudyFile
from sweep.terminal.tables import study_table
from sweep.terminal.verdict import verdict_report

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A study's search and its confirmation. Trials that were lost and run again are left out."""

    summary: StudySummary
    trials: tuple[optuna.trial.FrozenTrial, ...]
    confirmed: Confirmed | None
    """None before a confirmation was judged."""
    confirmation_trials: tuple[optuna.trial.FrozenTrial, ...]
    """Those that have run, judged or not."""
    others: tuple[OtherVerdict, ...]
    """Earlier verdicts, and those of longer horizons."""

    @property
    def config(self) -> StudyFile:
        """As the study was run."""
        return self.summary.config

    @property
    def deciding_trials(self) -> tuple[optuna.trial.FrozenTrial, ...]:
        """Those that say most about ranks: of the confirmation where there is one, else of the search."""
        return self.trials if self.confirmed is None else self.confirmation_trials

    @property
    def base(self) -> float | None:
        """The base policy's reward: over the confirmation's seeds where it has scores there, else the study's own."""
        verdict = None if self.confirmed is None else self.confirmed.verdict
        return self.summary.baseline if verdict is None or verdict.base is None else verdict.base


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The evidence, and what of it is drawn. None stands for what the study does not have."""

    evidence: Evidence
    spending: Spending
    gains: GainsInfo | None
    confirmed: ConfirmedInfo | None
    paths: PathsInfo | None
    guards: tuple[GuardInfo, ...]
    winners_curse: WinnersCurseInfo | None
    by_rank: ByRankInfo
    by_learning_rate: HeatInfo
    by_alpha: HeatInfo
    best_rate: BestRateInfo
    collapse_axis: CollapseAxisInfo
    importance: ImportanceInfo
    effective_rank: EffectiveRankInfo
    by_step: CurvesInfo
    by_tokens: CurvesInfo
    pareto: ParetoInfo
    best: BestConfigurations

    def tables(self) -> RenderableType:
        """What `sweep show` prints: the verdict, where there is one, and the search rank by rank."""
        summary, confirmed = self.evidence.summary, self.evidence.confirmed
        others = [Text(other.sentence, style="dim") for other in self.evidence.others]
        verdict = [] if confirmed is None else [verdict_report(confirmed, summary)]
        return Group(*verdict, *others, study_table(summary))

    def figures(self) -> dict[str, go.Figure]:
        """Every figure that has something to show, by name, in the order of the page."""
        figures = {}
        if self.gains is not None:
            figures["gains"] = gains_figure(self.gains)
        if self.confirmed is not None and self.confirmed.ranks:
            figures["confirmed"] = confirmed_figure(self.confirmed)
        if self.paths is not None:
            figures["paths"] = paths_figure(self.paths)
        figures |= {guard.label: guard_figure(guard) for guard in self.guards}
        if self.by_rank.trials:
            figures["by-rank"] = by_rank_figure(self.by_rank)
            figures["by-learning-rate"] = heat_figure(self.by_learning_rate)
            figures["by-alpha"] = heat_figure(self.by_alpha)
            if len(self.best_rate.tried) > 1:
                figures["best-rate"] = best_rate_figure(self.best_rate)
            figures["collapse"] = collapse_axis_figure(self.collapse_axis)
        if self.importance.every.shares or self.importance.learned.shares:
            figures["importance"] = importance_figure(self.importance)
        if self.effective_rank.ranks:
            figures["effective-rank"] = effective_rank_figure(self.effective_rank)
        if self.by_step.ranks:
            figures["curves-by-step"] = curves_figure(self.by_step)
            figures["curves-by-tokens"] = curves_figure(self.by_tokens)
        if self.winners_curse is not None and self.winners_curse.ranks:
            figures["winners-curse"] = winners_curse_figure(self.winners_curse)
        for cost in COSTS:
            if self.pareto.known(cost):
                figures[f"pareto-{cost.replace('_', '-')}"] = pareto_figure(self.pareto, cost)
        return figures


def open_report(storage: str, study: str) -> Report:
    """Reads a study from a storage, by its URL and the study's name.

    Raises:
        StorageError: where the storage or the study does not exist, or was not made by `sweep run`.
    """
    return read_report(open_study(open_storage(storage, create=False), study))


def read_report(study: optuna.Study) -> Report:
    """Reads a stored study and its confirmation.

    Raises:
        StorageError: where it was not made by `sweep run`.
    """
    evidence = _read_evidence(study)
    summary, confirmed, base = evidence.summary, evidence.confirmed, evidence.base
    costs = rank_costs(summary, confirmed, evidence.deciding_trials)
    return Report(
        evidence=evidence,
        # Both phases: what a study cost is what its answer took.
        spending=spending([*evidence.trials, *evidence.confirmation_trials]),
        gains=None if confirmed is None else gains_info(confirmed),
        confirmed=None if confirmed is None else confirmed_info(confirmed),
        paths=None if confirmed is None else paths_info(confirmed),
        guards=() if confirmed is None else guards_info(confirmed),
        winners_curse=None if confirmed is None else winners_curse_info(summary, confirmed),
        by_rank=by_rank_info(summary),
        by_learning_rate=heat_info(summary, "learning_rate"),
        by_alpha=heat_info(summary, "alpha"),
        best_rate=best_rate_info(summary),
        collapse_axis=collapse_axis_info(summary),
        importance=importance_info(evidence.trials),
        effective_rank=effective_rank_info(evidence.deciding_trials),
        by_step=curves_info(evidence.deciding_trials, "step", base=base),
        by_tokens=curves_info(evidence.deciding_trials, "tokens", base=base),
        pareto=pareto_info(costs, confirmed=confirmed is not None, base=base),
        best=best_configurations(summary, confirmed),
    )


def _read_evidence(study: optuna.Study) -> Evidence:
    trials = tuple(wanted_trials(study))
    summary, confirmation = summarize(study, trials), confirmation_study(study)
    return Evidence(
        summary=summary,
        trials=trials,
        confirmed=None if confirmation is None else read_confirmation(confirmation, summary.config),
        confirmation_trials=() if confirmation is None else tuple(wanted_trials(confirmation)),
        others=tuple(other_verdicts(study)),
    )
