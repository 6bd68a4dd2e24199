"""The loop that asks Optuna for trials, hands them to workers, and stores what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from objectives.errors import DroppedError, RewardError, TaskError, UnrewardedError
from objectives.stages import Stage, TrialsStage
from objectives.trial.checkpoint_file import remove_litter
from objectives.trial.messages import (
    Drop,
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
)
from sweep.errors import TrialsFailedError
from sweep.live_display.display import ProgressDisplay
from sweep.running.roster import Roster
from sweep.running.running_trial import RunningTrial
from sweep.running.running_trials import RunningTrials
from sweep.running.storage_watch import StorageWatch
from sweep.running.trial_schedule import TrialSchedule
from sweep.running.worker_process import WorkerDiedError
from sweep.running.workers import Workers
from sweep.storage import attributes
from sweep.storage.faults import is_storage_fault
from sweep.storage.requests import read_requests
from sweep.storage.schema import base_of
from sweep.study.file import StudyFile
from sweep.study.sources import check_unchanged
from sweep.text import printable

if TYPE_CHECKING:
    import optuna

USER_FAULTS = {RewardError.kind, TaskError.kind}
"""Kinds of failure that every other trial would meet."""


class Supervisor:
    """Runs a study until it holds all its trials. Whoever makes one holds the study's lock.

    It alone writes: what a worker says that counts as dead changes nothing.
    """

    def __init__(
        self,
        study: optuna.Study,
        config: StudyFile,
        schedule: TrialSchedule,
        *,
        workers: Workers,
        log_folder: Path,
        progress: ProgressDisplay,
        after_trial: Callable[[], None] = lambda: None,
    ) -> None:
        self._study, self._config, self._schedule, self._workers = study, config, schedule, workers
        self._roster = Roster(workers.count, slots=config.learner.slots)
        self._trials = RunningTrials(study, config, log_folder=log_folder, progress=progress)
        self._log_folder, self._progress, self._after_trial = log_folder, progress, after_trial
        self._base: HeldOutScore | None = None
        self._added, self._watch = 0, StorageWatch(study)

    def run(self) -> None:
        """Runs what is left of the study.

        Raises:
            TrialsFailedError: where no worker can load, a reward is broken, or none gets through.
        """
        self._trials.requeue_orphans()
        remove_litter(self._log_folder)
        self._schedule.queue(self._study)
        requests = read_requests(self._study)
        self._added, self._trials.ended = requests.added, requests.ended
        trials = self._schedule.trials + self._added
        self._progress.begin(done=requests.ended, trials=trials, steps=self._config.budget.steps)
        try:
            if self._left > 0:
                self._serve()
        except Exception as error:
            if is_storage_fault(error):
                self._trials.forget()
            raise
        finally:
            try:
                self._trials.lose("interrupted")
            finally:
                self._progress.end()

    def _serve(self) -> None:
        """Serves workers until the study is done. The first loads alone: what it finds, others would find too."""
        with self._workers as workers:
            workers.start(0)
            while self._trials or self._left > 0:
                # Not for ever: requests come through the storage, which wakes nobody, and the display ticks.
                heard = workers.receive(timeout_s=0.5)
                if heard is not None:
                    k, said = heard
                    if self._roster.is_at_work(k):
                        self._bury(k, said) if isinstance(said, WorkerDiedError) else self._handle(k, said)
                self._look_for_requests()
                self._fill_slots()
                self._progress.tick()

    def _handle(self, k: int, message: FromWorker) -> None:
        match message:
            case Stage(doing=doing) if doing and not self._workers.is_ready(k):
                self._progress.worker_is(k, doing)
            case TrialsStage(trials=trials, doing=doing):
                self._progress.trials_are(doing, trials)
            case Ready():
                self._on_ready(k, message)
            case Note(text=text):
                self._progress.note(self._roster.by(k, printable(text)))
            case Resumed(number=number):
                self._on_resumed(self._trials[number], message)
            case SlotFree():
                self._roster.free[k] += 1
            case Progress(number=number, metrics=metrics):
                self._on_progress(self._trials[number], metrics)
            case Finished(number=number):
                self._roster.deaths[k] = 0
                self._trials.finish(number, message.result)
                self._after_trial()
                for running in self._trials.end_unneeded(self._schedule.needs):
                    self._workers.send(running.worker, Prune(number=running.spec.number))
            case Failed(number=None):
                self._give_up(k, f"the worker could not start: {message.message} (log: {self._workers.log(k)})")
            case Failed():
                self._on_failed(message)

    def _on_ready(self, k: int, ready: Ready) -> None:
        if unlike := self._roster.unlike_the_first(ready):
            self._workers.stop(k)
            self._give_up(k, f"the worker does not compute as the first one does: {unlike}")
            return
        if self._base is None:
            self._base = base_of(self._study, ready.baseline)
            self._progress.ready(ready)
        else:
            self._progress.worker_is(k, "ready")
        attributes.record_ready(self._study, ready, slots=self._config.learner.slots, workers=self._workers.count)
        self._start_others()

    def _start_others(self) -> None:
        trials = self._left + len(self._trials) if self._base is not None else 0
        for k in self._roster.wanted(trials=trials, count=self._workers.count):
            self._workers.start(k)

    def _look_for_requests(self, *, now: bool = False) -> None:
        """Takes in what other processes ask for, every few seconds and before a trial is asked for."""
        if (requests := self._watch.look(now=now)) is None:
            return
        self._trials.ended = requests.ended
        for number in requests.dropped:
            running = self._trials[number]
            if not running.dropped:
                running.dropped = True
                self._workers.send(running.worker, Drop(number=number))
        if requests.added > self._added:
            self._added = requests.added
            self._progress.added(trials=self._schedule.trials + self._added)
        self._start_others()

    def _fill_slots(self) -> None:
        for k in self._roster.with_free_slots():
            while self._roster.free[k] and self._left > 0:
                self._look_for_requests(now=True)
                if self._left <= 0 or not self._start_trial(k):
                    return

    def _on_resumed(self, running: RunningTrial, message: Resumed) -> None:
        """Takes in again what was measured of the trial."""
        if self._trials.goes_further(running, message.step):
            self._roster.deaths[running.worker] = 0
        self._progress.resumed(running.spec, message.step, message.curve)
        ends = [running.observe(metrics) for metrics in message.curve]
        if any(ends):
            self._workers.send(running.worker, Prune(number=running.spec.number))

    def _on_progress(self, running: RunningTrial, metrics: StepMetrics) -> None:
        self._progress.step(running.spec, metrics)
        if running.observe(metrics):
            self._workers.send(running.worker, Prune(number=running.spec.number))

    def _on_failed(self, message: Failed) -> None:
        assert message.number is not None  # noqa: S101
        running = self._trials[message.number]
        # Where it has collapsed it failed because of that, whatever it failed of.
        if running.collapse is not None or message.kind == UnrewardedError.kind:
            running.trial.set_user_attr(attributes.COLLAPSED, True)
        # A fault of the user's own is mended, and then the trial is wanted again.
        self._trials.fail(running, printable(message.message), again=message.again or message.kind in USER_FAULTS)
        if message.kind in USER_FAULTS:
            log = running.trial.user_attrs[attributes.LOG]
            raise TrialsFailedError(f"trial {message.number} stopped the study: {message.message} (log: {log})")
        if message.kind != DroppedError.kind and self._trials.nothing_works():
            raise TrialsFailedError(f"the first trials all failed, the last one so: {message.message}")

    def _bury(self, k: int, death: WorkerDiedError) -> None:
        """Stores the trials that a dead worker held as lost, so that they are run again, and starts another."""
        cause, log = printable(str(death)), self._workers.log(k)
        self._roster.died(k)
        again = self._roster.is_worth_a_start(k, death)
        # Else for good: what ends its last worker time and again would do so for ever.
        wanted = again or death.loading or bool(death.reward) or self._roster.has_others(k)
        self._trials.lose(cause, worker=k, again=wanted)
        if death.reward is not None and not again:  # another worker would fare no better
            raise TrialsFailedError(f"{cause} (log: {log})")
        if again:
            check_unchanged(self._study.user_attrs[attributes.SOURCES], self._config)  # it loads files as they are now
            self._progress.note(self._roster.by(k, f"{cause}; starting another"))
            self._workers.start(k)
        else:
            times = "" if death.loading else f"{self._roster.deaths[k]} workers died one after another: "
            self._give_up(k, f"{times}{cause} (log: {log})")

    def _give_up(self, k: int, why: str) -> None:
        """Goes on without worker k, if there are others, else raises."""
        if not (others := self._roster.give_up(k)):
            raise TrialsFailedError(why)
        self._progress.note(self._roster.by(k, f"{why}; going on with {others} of {self._workers.count} workers"))

    def _start_trial(self, k: int) -> bool:
        """Gives worker k a trial, if there is one to be had."""
        if self._base is None or (trial := self._schedule.next_trial(self._study)) is None:
            return False
        running = self._trials.begin(
            trial, base=self._base, score_after=self._schedule.score_after, worker=k, identity=self._workers.identity(k)
        )
        self._roster.free[k] -= 1
        self._workers.send(k, Start(spec=running.spec))
        return True

    @property
    def _left(self) -> int:
        """Trials that may still be started."""
        return self._schedule.trials + self._added - self._trials.ended - len(self._trials)
