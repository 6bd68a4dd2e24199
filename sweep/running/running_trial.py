"""A trial under way, as the supervisor sees it: its steps so far, and why it should end before its budget does."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from objectives.trial.messages import StepMetrics, TrialResult, TrialSpec
from sweep.early_stopping.collapse_monitor import CollapseMonitor, lost_on_held_out
from sweep.early_stopping.pruner import SearchPruner, recent_reward
from sweep.storage import attributes
from sweep.storage.steps import is_reported

if TYPE_CHECKING:
    import optuna


@dataclass(slots=True, kw_only=True)
class RunningTrial:
    """A trial that a worker holds."""

    trial: optuna.Trial
    spec: TrialSpec
    monitor: CollapseMonitor
    pruner: SearchPruner | None
    """None where nothing but a collapse ends a trial."""
    worker: int = 0
    """Which one holds it."""
    curve: list[StepMetrics] = field(default_factory=list)
    collapse: str | None = None
    """Why it has collapsed."""
    dropped: bool = False
    """Whether its worker has been told that nobody wants it any more."""
    pruned: str | None = None
    """Why it was ended without having collapsed: by the pruner, or since nobody needs it any more."""

    @property
    def ending(self) -> bool:
        """Whether its worker has been told to end it."""
        return bool(self.collapse or self.pruned or self.dropped)

    def observe(self, metrics: StepMetrics) -> bool:
        """Takes in a step; whether the trial should end because of it. That is said once."""
        self.curve.append(metrics)
        reward = metrics.reward if self.pruner is None else recent_reward(self.curve, self.pruner.steps)
        ends = bool(self.collapse or self.pruned)
        if not ends:
            self.collapse = self.monitor.observe(metrics)
        # A pruner goes by every step, and TPE by the last one of a trial that collapsed.
        told = self.pruner is not None or self.collapse is not None or is_reported(metrics.step)
        if told and not math.isnan(reward):
            self.trial.report(reward, metrics.step)
        if ends:
            return False
        if self.collapse is None and self.pruner is not None and self.trial.should_prune():
            self.pruned = f"pruned at step {metrics.step} by {self.pruner.name}"
        return bool(self.collapse or self.pruned)

    def store(self, study: optuna.Study, result: TrialResult) -> str | None:
        """Stores what the trial, now ended, has come to; why it ended early or counts as collapsed, if it does."""
        from optuna.trial import TrialState

        trial, reason = self.trial, self.why_collapsed(result)
        if reason is not None:  # what is left of a collapsed adapter says nothing of what its rank needs
            result = replace(result, effective_ranks={})
        attributes.record_result(trial, result, self.curve)
        trial.set_user_attr(attributes.COLLAPSED, reason is not None)
        if result.pruned and reason is None:
            trial.set_user_attr(attributes.ENDED_EARLY, True)
            reason = self.pruned
        if reason is not None:
            trial.set_user_attr(attributes.REASON, reason)
        # Last of all: Optuna lets nobody set an attribute of a trial that has ended.
        if result.pruned:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, result.held_out.sampled)
        return reason

    def why_collapsed(self, result: TrialResult) -> str | None:
        """Why the trial, now ended, counts as collapsed: seen in training, or by its held-out score."""
        base = self.monitor.base
        if base.spread is not None and result.base is not None:
            base = result.base  # sampled with the trial's own seed
        lost = lost_on_held_out(result.held_out, base)
        if self.collapse is not None or lost is None:
            return self.collapse
        # Pruners catch many a collapse before its patience is up. It is one all the same.
        return lost + (f"; {self.pruned}" if self.pruned and result.pruned else "")
