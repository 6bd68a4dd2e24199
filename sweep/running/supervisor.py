"""The loop that asks Optuna for trials, hands them to a worker, and stores what comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from objectives.preview import Preview
from objectives.stages import Stage, TrialsStage
from objectives.trial.checkpoint_file import checkpoint_file, remove_litter
from objectives.trial.messages import (
    Failed,
    Finished,
    FromWorker,
    HeldOutScore,
    Note,
    Progress,
    Prune,
    Ready,
    Resumed,
    SlotFree,
    Start,
    StepMetrics,
    trial_log,
)
from sweep.early_stopping.collapse_monitor import CollapseMonitor
from sweep.early_stopping.pruner import SearchPruner
from sweep.errors import TrialsFailedError
from sweep.live_display.display import ProgressDisplay
from sweep.running.running_trial import RunningTrial
from sweep.running.worker_process import WorkerDiedError, WorkerProcess
from sweep.search.schedule import ended_trials, record_failure, trial_spec
from sweep.storage import attributes
from sweep.storage.schema import base_of
from sweep.study.file import StudyFile
from sweep.study.sources import source_hashes
from sweep.text import printable

if TYPE_CHECKING:
    import optuna

UNREWARDED = "unrewarded"
"""The kind of failure of a trained policy that no reward function applies to any more."""
USER_FAULTS = {"reward", "task"}
"""Kinds of failure that every other trial would meet too."""
MAX_WORKER_DEATHS = 3
"""Workers that may die one after another, with no trial finished between, before the study stops."""


class TrialSchedule(Protocol):
    """Which trials a study is to hold."""

    @property
    def trials(self) -> int:
        """How many in all."""

    @property
    def score_after(self) -> tuple[int, ...]:
        """Steps after which each is scored, besides its last."""

    def queue(self, study: optuna.Study) -> None:
        """Queues what is known beforehand and not held yet."""
        ...

    def next_trial(self, study: optuna.Study) -> optuna.Trial:
        """Asks for the next one: its parameters and its seed are set."""
        ...


class Supervisor:
    """Runs a study until it holds all its trials. Whoever makes one holds the study's lock."""

    def __init__(
        self,
        study: optuna.Study,
        config: StudyFile,
        schedule: TrialSchedule,
        *,
        log_folder: Path,
        progress: ProgressDisplay,
        after_trial: Callable[[], None] = lambda: None,
    ) -> None:
        self._study = study
        self._schedule = schedule
        self._config = config
        self._log_folder = log_folder
        self._progress = progress
        self._after_trial = after_trial
        self._running: dict[int, RunningTrial] = {}
        self._free_slots = 0
        self._base: HeldOutScore | None = None
        self._deaths = 0
        self._sources = source_hashes(config)
        self._pruner = study.pruner if isinstance(study.pruner, SearchPruner) else None

    def run(self) -> None:
        """Runs what is left of the study.

        Raises:
            TrialsFailedError: where the worker cannot load, a reward is broken, or no trial gets through.
            KeyboardInterrupt: passed on, once running trials are stored as lost and queued again.
        """
        self._requeue_orphans()
        remove_litter(self._log_folder)
        self._schedule.queue(self._study)
        self._progress.begin(
            done=len(ended_trials(self._study)), trials=self._schedule.trials, steps=self._config.budget.steps
        )
        try:
            while self._left() > 0:
                self._run_worker()
        finally:
            self._lose_running("interrupted")
            self._progress.end()

    def _run_worker(self) -> None:
        """Serves one worker until the study is done or the worker dies."""
        settings = self._config.worker_settings(self._log_folder, sources=self._sources)
        log = self._log_folder / f"worker-{time.strftime('%Y%m%d-%H%M%S')}.log"
        self._free_slots = 0
        with WorkerProcess(settings, log) as worker:
            try:
                # In this order: while trials run, the storage need not be asked.
                while self._running or self._left() > 0:
                    message = worker.receive(timeout_s=0.5)
                    if message is not None:
                        self._handle(message, worker)
                    self._progress.tick()
            except WorkerDiedError as death:
                self._bury(death, worker)

    def _handle(self, message: FromWorker | Preview, worker: WorkerProcess) -> None:
        match message:
            case Stage(doing=doing) if doing and not worker.watch.ready:
                self._progress.note(doing)
            case TrialsStage(trials=trials, doing=doing):
                self._progress.trials_are(doing, trials)
            case Ready():
                self._base = base_of(self._study, message.baseline)
                attributes.record_ready(self._study, message, slots=self._config.learner.slots)
                self._progress.ready(message)
            case Note(text=text):
                self._progress.note(printable(text))
            case Resumed(number=number):
                self._on_resumed(self._running[number], message, worker)
            case SlotFree():
                self._free_slots += 1
            case Progress(number=number, metrics=metrics):
                self._on_progress(self._running[number], metrics, worker)
            case Finished(number=number, result=_):
                self._on_finished(self._running.pop(number), message)
            case Failed():
                self._on_failed(message, worker)
        while self._free_slots and self._left() > 0:
            self._start_trial(worker)

    def _start_trial(self, worker: WorkerProcess) -> None:
        trial = self._schedule.next_trial(self._study)
        spec = trial_spec(trial, self._config, score_after=self._schedule.score_after)
        assert self._base is not None  # noqa: S101 - a worker is ready before it has a free slot
        monitor = CollapseMonitor(
            base=self._base,
            patience=self._config.search.collapse_patience,
            prompts_per_step=self._config.budget.prompts_per_step,
        )
        self._running[trial.number] = RunningTrial(trial=trial, spec=spec, monitor=monitor, pruner=self._pruner)
        self._free_slots -= 1
        trial.set_user_attr(attributes.WORKER, worker.pid)
        trial.set_user_attr(attributes.LOG, str(trial_log(self._log_folder, trial.number)))
        worker.send(Start(spec=spec))
        self._progress.trial_started(spec)

    def _on_resumed(self, running: RunningTrial, message: Resumed, worker: WorkerProcess) -> None:
        """Takes in again what an earlier run of the trial has measured."""
        self._progress.resumed(running.spec, message.step, message.curve)
        ends = [running.observe(metrics) for metrics in message.curve]
        if any(ends):
            worker.send(Prune(number=running.spec.number))

    def _on_progress(self, running: RunningTrial, metrics: StepMetrics, worker: WorkerProcess) -> None:
        self._progress.step(running.spec, metrics)
        if running.observe(metrics):
            worker.send(Prune(number=running.spec.number))

    def _on_finished(self, running: RunningTrial, message: Finished) -> None:
        from optuna.trial import TrialState

        trial, result = running.trial, message.result
        score, reason = result.held_out.sampled, running.why_collapsed(result)
        attributes.record_result(trial, result, running.curve)
        trial.set_user_attr(attributes.COLLAPSED, reason is not None)
        if result.pruned and reason is None:
            trial.set_user_attr(attributes.ENDED_EARLY, True)
            reason = running.pruned
        if reason is not None:
            trial.set_user_attr(attributes.REASON, reason)
        if result.pruned:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, score)
        self._forget_checkpoint(running)
        self._deaths = 0
        self._progress.trial_ended(running.spec, score=score, reason=reason)
        self._after_trial()

    def _on_failed(self, message: Failed, worker: WorkerProcess) -> None:
        if message.number is None:
            raise TrialsFailedError(f"the worker could not start: {message.message} (log: {worker.log})")
        running = self._running.pop(message.number)
        # Where it has collapsed it failed because of that, whatever it failed of.
        if running.collapse is not None or message.kind == UNREWARDED:
            running.trial.set_user_attr(attributes.COLLAPSED, True)
        # A fault of the user's own is mended, and then the trial is wanted again.
        self._fail(running, printable(message.message), again=message.again or message.kind in USER_FAULTS)
        if message.kind in USER_FAULTS:
            log = running.trial.user_attrs[attributes.LOG]
            raise TrialsFailedError(f"trial {message.number} stopped the study: {message.message} (log: {log})")
        if self._nothing_works():
            raise TrialsFailedError(f"the first trials all failed, the last one so: {message.message}")

    def _bury(self, death: WorkerDiedError, worker: WorkerProcess) -> None:
        """Stores the trials that a dead worker held as lost, and lets the next worker have them again."""
        cause = printable(str(death))
        self._deaths += 1
        if death.reward is not None or death.loading:  # the next one would fare no better
            self._lose_running(cause)
            raise TrialsFailedError(f"{cause} (log: {worker.log})")
        if self._deaths >= MAX_WORKER_DEATHS:
            for running in self._running.values():
                self._fail(running, cause)
            self._running.clear()
            raise TrialsFailedError(f"{self._deaths} workers died one after another: {cause} (log: {worker.log})")
        self._progress.note(f"{cause}; starting another")
        self._lose_running(cause)

    def _lose_running(self, cause: str) -> None:
        for running in self._running.values():
            self._fail(running, cause, again=True)
        self._running.clear()

    def _fail(self, running: RunningTrial, reason: str, *, again: bool = False) -> None:
        record_failure(self._study, running.trial.number, reason, again=again)
        if not again:
            self._forget_checkpoint(running)
        self._progress.trial_ended(running.spec, score=None, reason=reason, again=again)

    def _forget_checkpoint(self, running: RunningTrial) -> None:
        """Once it is stored how a trial has ended, and not before, nobody will want to go on with it."""
        checkpoint_file(self._log_folder, running.spec).unlink(missing_ok=True)

    def _requeue_orphans(self) -> None:
        """A trial that runs while we hold the lock was lost with its supervisor."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            record_failure(self._study, trial.number, "the supervisor was killed", again=True)

    def _left(self) -> int:
        """Trials that may still be started."""
        return self._schedule.trials - len(ended_trials(self._study)) - len(self._running)

    def _nothing_works(self) -> bool:
        """Whether three trials or more have ended, and every one failed."""
        from optuna.trial import TrialState

        ended = [trial.state for trial in ended_trials(self._study)]
        return len(ended) >= 3 and set(ended) == {TrialState.FAIL}
