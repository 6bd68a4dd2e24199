"""Optuna's pruners over GRPO steps, for studies that opt in: where they may end a trial, and what they go by."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import optuna

from objectives.trial.messages import StepMetrics
from sweep.storage.attributes import DESIGN
from sweep.study.file import StudyFile
from sweep.study.pruners import PRUNERS

REDUCTION_FACTOR = 2
"""At each rung the better half goes on, the gentlest that Optuna's pruners know."""


class SearchPruner(optuna.pruners.BasePruner):
    """Ends trials of the sampler's choosing, and none of the design.

    Ranks are compared by what the design's points come to, so every one of these runs its whole budget. Their rewards
    along it count all the same: they are what later trials are compared with.
    """

    # A class of our own also keeps TPE's view whole: where a study's pruner is a HyperbandPruner itself, Optuna 5.0
    # shows the sampler the trials of one bracket alone, which are too few for it to adapt.

    def __init__(self, pruner: optuna.pruners.BasePruner, *, name: str, steps: int) -> None:
        """Wraps a pruner.

        Args:
            pruner: Optuna's.
            name: What people call it.
            steps: A trial's whole budget.
        """
        self._pruner = pruner
        self.name, self.steps = name, steps

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """See `BasePruner.prune`. A trial that has spent its budget has nothing left to save."""
        if trial.last_step is None or trial.last_step >= self.steps:
            return False
        # Asked for the design's trials too: this is how Optuna takes down what they had at a rung.
        loses = self._pruner.prune(study, trial)
        return loses and DESIGN not in trial.user_attrs


def make_pruner(config: StudyFile) -> optuna.pruners.BasePruner:
    """The pruner that the study asks for."""
    kind, steps = config.search.pruner, config.budget.steps
    pruner: optuna.pruners.BasePruner
    match kind:
        case "none":
            return optuna.pruners.NopPruner()
        case "successive_halving":
            pruner = optuna.pruners.SuccessiveHalvingPruner(
                min_resource=first_rung(steps), reduction_factor=REDUCTION_FACTOR
            )
        case "hyperband":
            pruner = optuna.pruners.HyperbandPruner(
                min_resource=first_rung(steps), max_resource=steps, reduction_factor=REDUCTION_FACTOR
            )
    return SearchPruner(pruner, name=PRUNERS[kind], steps=steps)


def first_rung(steps: int) -> int:
    """The step after which trials are first compared: a quarter of the budget, rounded up.

    Further rungs lie at twice the step of the one before. Rounded down, the last one could fall just before the end.
    """
    return -(-steps // 4)


def recent_reward(curve: Sequence[StepMetrics], steps: int) -> float:
    """What a pruner goes by: the training reward, averaged over as many of the last steps as the first rung has.

    One step's reward is too noisy to compare trials by. In 15 trials of the study `tiny`, its rank correlation with
    the held-out reward at the end was .18 after a quarter of the budget and .44 after half, that of the average .47
    and .53.

    Args:
        curve: The trial's steps so far, the newest last.
        steps: The trial's whole budget.
    """
    since = curve[-1].step - first_rung(steps)
    return fmean(metrics.reward for metrics in curve[-first_rung(steps) :] if metrics.step > since)
