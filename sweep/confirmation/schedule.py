"""Which trials a confirmation holds: every frozen configuration on the same fresh seeds, all of them or as needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from objectives.trial.messages import TrialSpec
from sweep.confirmation.naming import FIRST_SEED
from sweep.confirmation.outcome import horizon_steps
from sweep.confirmation.scores import ConfirmationTrials
from sweep.confirmation.seed_by_seed import Progress, progress_of
from sweep.search.schedule import ask, waiting_trials
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import FrozenConfiguration, SmoothedSearch
from sweep.storage.attributes import ADDED, COLLAPSED, DROPPED, REDONE, SEED
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna

Held = set[tuple[int, int]]
"""Rank and seed of trials."""


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
        held, failed = held_trials(study)
        # Those that failed count among the ended ones, and so among all.
        self.trials = len(self._frozen) * len(self._seeds) + len(failed)
        # Seed by seed, not rank by rank: wherever this is interrupted, what has run is paired.
        for seed in self._seeds:
            for frozen in self._frozen:
                if (frozen.r, seed) not in held:
                    enqueue(study, self._config, frozen, seed)

    def next_trial(self, study: optuna.Study) -> optuna.Trial | None:
        """See `TrialSchedule.next_trial`. Where nothing waits any more, nothing is made up."""
        return ask(study, self._config) if waiting_trials(study) else None

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`."""
        return True


class SeedBySeed:
    """Seeds in order, each for the ranks that are still needed, until the verdict is settled.

    A slot that is free while a seed's trials run gets one of the next seed.
    """

    def __init__(
        self,
        config: StudyFile,
        search: SmoothedSearch,
        rule: Rule,
        *,
        seeds: int,
        first: int = FIRST_SEED,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Sets up.

        Args:
            config: The study.
            search: What is frozen.
            rule: One with a cap.
            seeds: A rank, at most.
            first: The first of them, above the study's own.
            tell: Is told where the confirmation stands, whenever a seed has come to its end.
        """
        self._config, self._search, self._rule, self._tell = config, search, rule, tell
        self._seeds = range(config.study.seed + first, config.study.seed + first + seeds)
        self._told = 0
        self._needed = tuple(frozen.r for frozen in search.frozen)
        self._again: Held = set()
        self.trials = len(search.frozen) * seeds
        self.score_after = tuple(horizon_steps(config.budget.steps).values())

    def queue(self, study: optuna.Study) -> None:
        """See `TrialSchedule.queue`. Nothing is known beforehand but which trials failed: those are run again."""
        held, failed = held_trials(study)
        self._again = set(failed) - held
        self._told = len(self._progress(study).seeds)
        self._missing(study)

    def next_trial(self, study: optuna.Study) -> optuna.Trial | None:
        """See `TrialSchedule.next_trial`. None where no seed is needed any more, or all that are run already."""
        if not waiting_trials(study):
            missing = self._missing(study)
            if not missing:
                return None
            r, seed = missing[0]
            self._again.discard((r, seed))
            enqueue(study, self._config, next(each for each in self._search.frozen if each.r == r), seed)
        return ask(study, self._config)

    def needs(self, spec: TrialSpec) -> bool:
        """See `TrialSchedule.needs`: as of the last look."""
        return spec.r in self._needed

    def look(self, study: optuna.Study) -> None:
        """Tells where the confirmation stands, where a seed has come to its end since it was told last."""
        progress = self._progress(study)
        self._needed = progress.needed
        if len(progress.seeds) > self._told:
            self._told = len(progress.seeds)
            self._tell(progress)

    def _progress(self, study: optuna.Study) -> Progress:
        trials, step = ConfirmationTrials.read(study).without(self._again), self._config.budget.steps
        return progress_of(trials, self._search, self._rule, seeds=self._seeds, step=step)

    def _missing(self, study: optuna.Study) -> list[tuple[int, int]]:
        """What is not held yet, in order. `trials` follows it: that is how the supervisor knows when to end."""
        progress, (held, failed) = self._progress(study), held_trials(study)
        # What failed before this run is wanted anew; what fails during it is not tried for ever.
        gone = held | (set(failed) - self._again)
        still = self._seeds[len(progress.seeds) :]
        missing = [(r, seed) for seed in still for r in progress.needed if (r, seed) not in gone]
        self.trials = count_trials(study) + len(missing)
        return missing


def count_trials(study: optuna.Study) -> int:
    """How many trials a confirmation holds; one that was lost and run again counts once."""
    return sum(not {REDONE, ADDED} & trial.user_attrs.keys() for trial in study.get_trials(deepcopy=False))


def held_trials(study: optuna.Study) -> tuple[Held, list[tuple[int, int]]]:
    """Rank and seed of the trials that a confirmation holds, and of each that failed and is worth another try."""
    held, failed = Held(), list[Any]()
    for trial in study.get_trials(deepcopy=False):
        if REDONE in trial.user_attrs:
            continue
        which: Any = trial.system_attrs.get("fixed_params", {}).get("r"), trial.user_attrs.get(SEED)
        if trial.state.name == "FAIL" and not any(trial.user_attrs.get(key) for key in (COLLAPSED, DROPPED)):
            failed.append(which)
        else:
            held.add(which)
    return held, failed


def enqueue(study: optuna.Study, config: StudyFile, frozen: FrozenConfiguration, seed: int) -> None:
    """Queues a frozen configuration on a seed."""
    names = config.search_space().with_alpha(frozen.r, round(frozen.alpha))
    study.enqueue_trial(names | {"learning_rate": frozen.learning_rate} | frozen.point, user_attrs={SEED: seed})
