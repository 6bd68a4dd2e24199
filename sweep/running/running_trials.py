"""The trials that workers hold, from being asked for to being stored, told and forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from objectives.trial.checkpoint_file import checkpoint_file
from objectives.trial.messages import HeldOutScore, TrialResult, TrialSpec, trial_log
from sweep.early_stopping.collapse_monitor import CollapseMonitor
from sweep.early_stopping.pruner import SearchPruner
from sweep.live_display.display import ProgressDisplay
from sweep.running.running_trial import RunningTrial
from sweep.search.schedule import ended_trials, record_failure, trial_spec
from sweep.storage import attributes
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna

NOT_NEEDED = "ended early: the verdict does not need it any more"


class RunningTrials:
    """The running trials of a study, by their numbers. What becomes of each is stored before it is shown."""

    def __init__(self, study: optuna.Study, config: StudyFile, *, log_folder: Path, progress: ProgressDisplay) -> None:
        self.ended = 0
        """Trials of the study that have ended for good, counted here: asking the storage takes long in a long study."""
        self._study, self._config, self._log_folder, self._progress = study, config, log_folder, progress
        self._trials: dict[int, RunningTrial] = {}
        self._furthest: dict[str, int] = {}
        self._bases = _stored_bases(study)
        self._pruner = study.pruner if isinstance(study.pruner, SearchPruner) else None

    def __len__(self) -> int:
        return len(self._trials)

    def __getitem__(self, number: int) -> RunningTrial:
        return self._trials[number]

    def requeue_orphans(self) -> None:
        """A trial that runs in storage while we hold the lock was lost with its supervisor: it is run again."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            record_failure(self._study, trial.number, "the supervisor was killed", again=True)

    def begin(
        self,
        trial: optuna.Trial,
        *,
        base: HeldOutScore,
        score_after: tuple[int, ...],
        worker: int,
        identity: int | str | None,
    ) -> RunningTrial:
        """Takes in a trial that a worker is about to be given.

        Args:
            trial: As it was asked for.
            base: The base policy's score, which says what a collapse is.
            score_after: Steps after which it is scored besides its last.
            worker: The worker's number.
            identity: What is stored of the worker.
        """
        known = self._bases.get(trial.user_attrs[attributes.SEED])
        spec = trial_spec(trial, self._config, score_after=score_after, base=known)
        monitor = CollapseMonitor(
            base=base,
            patience=self._config.search.collapse_patience,
            prompts_per_step=self._config.budget.prompts_per_step,
        )
        running = RunningTrial(trial=trial, spec=spec, monitor=monitor, pruner=self._pruner, worker=worker)
        self._trials[trial.number] = running
        trial.set_user_attr(attributes.WORKER, identity)
        trial.set_user_attr(attributes.LOG, str(trial_log(self._log_folder, trial.number)))
        self._progress.trial_started(spec, worker=worker)
        return running

    def finish(self, number: int, result: TrialResult) -> None:
        """Stores what a trial has come to."""
        running = self._trials.pop(number)
        if result.base is not None:
            self._bases.setdefault(running.spec.seed, result.base)
        reason = running.store(self._study, result)
        self._end(running, keep=self._config.run.keep_checkpoints and not result.pruned)
        self._progress.trial_ended(running.spec, score=result.held_out.sampled, reason=reason)

    def fail(self, running: RunningTrial, reason: str, *, again: bool = False) -> None:
        """Stores a trial as failed; with `again`, it is run again and goes on from its checkpoint."""
        del self._trials[running.trial.number]
        again = record_failure(self._study, running.trial.number, reason, again=again)
        if not again:
            self._end(running)
        self._progress.trial_ended(running.spec, score=None, reason=reason, again=again)

    def lose(self, cause: str, *, worker: int | None = None, again: bool = True) -> None:
        """Stores trials as failed through no fault of theirs: those of one worker, or all."""
        for running in list(self._trials.values()):
            if worker in (None, running.worker):
                self.fail(running, cause, again=again)

    def goes_further(self, running: RunningTrial, step: int) -> bool:
        """Whether a trial goes on above where it, or what was lost of it, has gone on before."""
        # Not by its number: a trial that was lost comes again under another.
        name = checkpoint_file(self._log_folder, running.spec).name
        before, self._furthest[name] = self._furthest.get(name, 0), max(step, self._furthest.get(name, 0))
        return step > before

    def forget(self) -> None:
        """Stores nothing of those that run: the storage is gone, and whoever finds it again finds them running."""
        self._trials.clear()

    def end_unneeded(self, needs: Callable[[TrialSpec], bool]) -> list[RunningTrial]:
        """Those that nobody needs any more, each once: they are to end."""
        unneeded = [each for each in self._trials.values() if not (each.ending or needs(each.spec))]
        for running in unneeded:
            running.pruned = NOT_NEEDED
        return unneeded

    def nothing_works(self) -> bool:
        """Whether three trials or more have ended, and every one failed."""
        if self.ended < 3:
            return False
        return {trial.state.name for trial in ended_trials(self._study)} == {"FAIL"}

    def _end(self, running: RunningTrial, *, keep: bool = False) -> None:
        """Once it is stored how a trial has ended, and not before, nobody goes on with it, but to more steps."""
        self.ended += 1
        if not keep:
            checkpoint_file(self._log_folder, running.spec).unlink(missing_ok=True)


def _stored_bases(study: optuna.Study) -> dict[int, HeldOutScore]:
    """The base policy's score under each seed that some trial has had: it is scored once, whichever worker asks."""
    found: dict[int, HeldOutScore] = {}
    for trial in study.get_trials(deepcopy=False):
        seed: int = trial.user_attrs.get(attributes.SEED, -1)
        if seed not in found and (base := attributes.base_score(trial.user_attrs)) is not None:
            found[seed] = base
    return found
