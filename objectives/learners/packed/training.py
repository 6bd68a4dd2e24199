"""A pack in training: its slots take trials from the feed, and give them back scored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from objectives.engines.adapter_files import AdapterFolder
from objectives.errors import (
    DroppedError,
    EngineError,
    PackTooLargeError,
    RewardError,
    UnrewardedError,
    is_out_of_memory,
    pack_too_large,
)
from objectives.learners.packed.alternation import Rollout, Rollouts
from objectives.learners.packed.batch import Batch
from objectives.learners.packed.checkpoints import Checkpoints
from objectives.learners.packed.held_out import HeldOut
from objectives.learners.packed.rollouts import Samples
from objectives.learners.packed.scoring import Scored, metrics, score, to_batch
from objectives.learners.packed.step import Stepper
from objectives.learners.packed.trial_run import TrialRun, begin_run, shared_time, write_error
from objectives.learners.protocol import TrialFeed
from objectives.rewards.calling import from_trainer
from objectives.settings.sections import WorkerSettings
from objectives.stages import trials_are
from objectives.trial.evaluation import completion_texts
from objectives.trial.messages import TrialSpec, trial_log
from objectives.trial.resources import Loaded


class PackTraining:
    """Trains trials in the slots of one pack; a slot that becomes free takes the next trial."""

    def __init__(
        self,
        *,
        feed: TrialFeed,
        settings: WorkerSettings,
        loaded: Loaded,
        adapters: AdapterFolder,
        stepper: Stepper,
        rollouts: Rollouts,
        prompts: int,
    ) -> None:
        """Sets up.

        Args:
            feed: Where trials come from.
            settings: What they share.
            loaded: The same, loaded.
            adapters: Where they are handed to the engine.
            stepper: Trains the pack.
            rollouts: The engine's side of it.
            prompts: There are to train on.
        """
        self._feed, self._settings, self._loaded, self._adapters = feed, settings, loaded, adapters
        self._stepper, self._rollouts, self._prompts = stepper, rollouts, prompts
        self._checkpoints = Checkpoints(settings, stepper.optimizer, feed)
        self._held_out = HeldOut(loaded.evaluator, adapters, rollouts)
        self._epoch_steps = prompts // settings.budget.prompts_per_step * settings.learner.num_iterations
        self._runs: dict[int, TrialRun] = {}

    def serve(self) -> None:
        """Trains until the feed has no more trials. The slots are empty then, however it ends.

        Raises what `_blaming` and rewards do, once trials have been told.
        """
        try:
            with self._rollouts:
                self._alternate()
        except Exception as error:
            # What ends a pack is seldom these trials' doing: they are to go on, here or in another worker.
            self._checkpoints.save(self._runs.values())
            if isinstance(error, PackTooLargeError):
                for run in list(self._runs.values()):
                    self._fail(run, error)
            raise
        finally:
            for run in list(self._runs.values()):
                self._release(run)

    def _alternate(self) -> None:
        """Trains those who have their samples, while the engine rolls out for the others."""
        while True:
            started = [self._start(half) for half in self._rollouts.halves if not self._rollouts.asked_for(half)]
            if (rollout := self._rollouts.next()) is not None:
                with self._blaming(rollout.runs):
                    self._round(rollout)
                self._checkpoints.between_rollouts(run for run in rollout.runs if self._runs.get(run.slot) is run)
                if self._feed.stopped:
                    self._checkpoints.save(self._runs.values())
                    return
            elif not any(started):
                return

    def _start(self, half: range) -> bool:
        """Asks for a rollout of the trials in these slots, old and new; whether there are any."""
        runs = self._refilled(half)
        if runs:
            trials_are("rolling out", *(run.spec.number for run in runs))
            with self._blaming(runs):
                self._rollouts.start(runs)
        return bool(runs)

    def _refilled(self, slots: range) -> list[TrialRun]:
        """Gives free slots to new trials, waiting only where nothing else is to be done; the trials in all of them."""
        while free := set(slots) - self._runs.keys():
            spec = self._feed.take(block=not self._runs)
            if spec is None:
                break
            if run := self._filled(min(free), spec):
                self._runs[run.slot] = run
                if run.spent:  # it was, and its supervisor was killed before it knew
                    with self._blaming([run]), self._failing(run):
                        self._adapters.publish(run.owner, run.adapter, run.spec.r)
                        self._end(run)
        return [self._runs[k] for k in slots if k in self._runs]

    def _filled(self, k: int, spec: TrialSpec) -> TrialRun | None:
        """Puts a trial into slot k; None where it has failed at that."""
        trials_are("building", spec.number)
        try:
            run = begin_run(k, spec, settings=self._settings, stepper=self._stepper, prompts=self._prompts)
            self._checkpoints.resume(run)
        except Exception as error:
            write_error(trial_log(self._settings.log_folder, spec.number), error)
            told = pack_too_large(error, self._stepper.pack.slots)
            self._feed.fail(spec.number, told or error)
            if told:
                raise told from error
            return None
        return run

    @contextmanager
    def _blaming(self, runs: Sequence[TrialRun]) -> Iterator[None]:
        """What goes wrong in this context and is nobody's in particular is everybody's among these trials.

        Raises:
            PackTooLargeError: where memory is too short for so many trials at once.
        """
        try:
            yield
        except RewardError:
            raise
        except Exception as error:
            if told := pack_too_large(error, self._stepper.pack.slots):
                raise told from error
            for run in runs:
                if self._runs.get(run.slot) is run:
                    self._fail(run, error)

    def _round(self, rollout: Rollout) -> None:
        """The optimizer steps that are taken on a rollout."""
        with shared_time(rollout.runs, "rollout"):
            sampled = rollout.samples()
        pairs = []
        for run, outcome in zip(rollout.runs, sampled, strict=True):
            if isinstance(outcome, EngineError):
                self._fail(run, outcome)
            else:
                pairs.append((run, outcome))
        if not pairs:
            return
        runs, samples = [run for run, _ in pairs], [trial for _, trial in pairs]
        trials_are("training", *(run.spec.number for run in runs))
        with shared_time(runs, "train"):
            scored = [self._score(run, trial) for run, trial in pairs]
            batch, silent = to_batch(
                samples,
                torch.stack([trial.rewards for trial in scored]),
                self._stepper.objective,
                pad=self._loaded.policy.tokenizer.pad_token_id or 0,
                device=self._loaded.policy.base.device,
                order=self._stepper.order,
            )
        for iteration in range(self._settings.learner.num_iterations):
            live = [i for i, run in enumerate(runs) if self._runs.get(run.slot) is run]
            if not live:
                return
            runs, scored, silent = [runs[i] for i in live], [scored[i] for i in live], [silent[i] for i in live]
            batch = batch if len(live) == batch.trials else batch.only(live)
            self._step(runs, batch, (scored, silent) if iteration == 0 else None)

    def _score(self, run: TrialRun, samples: Samples) -> Scored:
        try:
            texts = completion_texts(self._loaded.policy.tokenizer, samples.rows, samples.completions)
            state = from_trainer(run.step, self._settings.budget.steps, epoch=run.step / self._epoch_steps)
            scored = score(samples, texts, self._loaded.rewards, trainer=state)
        except RewardError as error:
            self._fail(run, error)
            raise
        if scored.unscored:
            run.log(f"step {run.step + 1}: {scored.unscored}")
        return scored

    def _step(self, runs: Sequence[TrialRun], batch: Batch, news: tuple[list[Scored], list[float]] | None) -> None:
        """One optimizer step, and what follows from it: scores, reports, ends. Reports tell of new samples only."""
        with shared_time(runs, "train"):
            draws = [(run.spec.seed, run.step) for run in runs]
            measured = self._stepper.step([run.slot for run in runs], batch, draws)
        for run in runs:  # all before any is scored: should that fail, nobody's weights are ahead of their count
            run.step += 1
        unscored = self._held_out.score([run for run in runs if run.due])
        for i, run in enumerate(runs):
            with self._failing(run):
                if run.slot in unscored:
                    raise unscored[run.slot]
                if news is not None:
                    of_run = news[0][i], news[1][i]
                    told = metrics(*of_run, measured, i, step=run.step, tokens=run.tokens, seconds=run.lap())
                    run.reported(told)
                    self._feed.progress(run.spec.number, told)
                if (news is not None and self._feed.pruned(run.spec.number)) or run.spent:
                    self._end(run)

    @contextmanager
    def _failing(self, run: TrialRun) -> Iterator[None]:
        """What goes wrong in this context is this trial's."""
        try:
            yield
        except RewardError as error:
            self._fail(run, error)
            raise
        except (DroppedError, EngineError, UnrewardedError) as error:
            if is_out_of_memory(error):
                raise
            self._fail(run, error)

    def _end(self, run: TrialRun) -> None:
        """Scores a trial for the last time, tells what it has come to, and frees its slot."""
        base = self._held_out.finish(run)
        self._checkpoints.keep(run)
        self._feed.finish(run.spec.number, run.result(adapter=self._adapters.keep(run.owner), base=base))
        self._release(run)

    def _fail(self, run: TrialRun, error: BaseException) -> None:
        run.log_error(error)
        self._release(run)
        self._feed.fail(run.spec.number, error)

    def _release(self, run: TrialRun) -> None:
        self._adapters.forget(run.owner)
        run.adapter.packed.clear(run.slot)
        del self._runs[run.slot]
