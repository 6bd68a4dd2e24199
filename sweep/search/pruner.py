"""Optuna's pruners over GRPO steps, for studies that opt in."""

from __future__ import annotations

import optuna

from sweep.search.rungs import PRUNERS, REDUCTION_FACTOR, first_rung
from sweep.search.schedule import DESIGN
from sweep.study.file import StudyFile


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
