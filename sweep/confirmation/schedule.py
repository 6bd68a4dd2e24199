"""Which trials a confirmation holds: every frozen configuration on the same fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.confirmation.naming import FIRST_SEED
from sweep.confirmation.outcome import horizon_steps
from sweep.search.schedule import ask, waiting_trials
from sweep.statistics.smoothing import FrozenConfiguration
from sweep.storage.attributes import COLLAPSED, DROPPED, REDONE, SEED
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna


class ConfirmSchedule:
    """Every frozen configuration on every seed, seed by seed, so that what has run is always paired."""

    def __init__(
        self, config: StudyFile, frozen: Sequence[FrozenConfiguration], *, seeds: int, first: int = FIRST_SEED
    ) -> None:
        """Sets up.

        Args:
            config: The study.
            frozen: What every seed runs.
            seeds: A rank.
            first: The first of them, above the study's own.
        """
        self._config = config
        self._frozen = frozen
        self._seeds = range(config.study.seed + first, config.study.seed + first + seeds)
        self.trials = len(frozen) * seeds
        self.score_after = tuple(horizon_steps(config.budget.steps).values())

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`. Trials that failed are queued again, so that no rank misses a seed."""
        held, failed = set(), 0
        for trial in study.get_trials(deepcopy=False):
            if REDONE in trial.user_attrs:
                continue
            # One that collapsed is a result, and one that was dropped nobody wants.
            if trial.state.name == "FAIL" and not {COLLAPSED, DROPPED} & {k for k, v in trial.user_attrs.items() if v}:
                failed += 1
            else:
                # What it was queued with: one that still waits has no parameters yet.
                held.add((trial.system_attrs.get("fixed_params", {}).get("r"), trial.user_attrs.get(SEED)))
        # Those that failed count among the ended ones, and so among all.
        self.trials = len(self._frozen) * len(self._seeds) + failed
        # Seed by seed, not rank by rank: wherever this is interrupted, what has run is paired.
        for seed in self._seeds:
            for frozen in self._frozen:
                if (frozen.r, seed) not in held:
                    names = self._config.search_space().with_alpha(frozen.r, round(frozen.alpha))
                    point = names | {"learning_rate": frozen.learning_rate}
                    study.enqueue_trial(point, user_attrs={SEED: seed})

    def next_trial(self, study: optuna.Study) -> optuna.Trial | None:
        """See `TrialSchedule.next_trial`. Where nothing waits any more, nothing is made up."""
        return ask(study, self._config) if waiting_trials(study) else None
