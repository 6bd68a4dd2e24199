"""GRPO for K trials at once: one base, one engine, one rollout, one forward and backward pass; K adapters."""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from objectives.adapters import AdapterFolder
from objectives.errors import EngineError, PackTooLargeError, PolicyError, RewardError, is_out_of_memory
from objectives.evaluation import completion_texts
from objectives.learners.packed.grpo import Objective
from objectives.learners.packed.linear import Pack, pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.rollouts import Sampler, Samples
from objectives.learners.packed.scoring import Scored, metrics, score, to_batch
from objectives.learners.packed.slots import SlotAdapter
from objectives.learners.packed.step import Batch, Stepper
from objectives.learners.packed.trial_run import TrialRun, prompt_order, shared_time
from objectives.learners.protocol import TrialFeed
from objectives.loading import Loaded, training_rows
from objectives.settings import WorkerSettings
from objectives.trial import trial_log


class PackedLearner:
    """Trains up to `slots` trials in lock-step; a slot that becomes free takes the next trial."""

    def __init__(self, *, settings: WorkerSettings, loaded: Loaded, adapters: AdapterFolder, slots: int) -> None:
        """Sets up.

        Args:
            settings: What trials share.
            loaded: The same, loaded. The engine takes `slots` adapters in one rollout.
            adapters: Where adapters are handed to the engine.
            slots: How many trials may run at once.

        Raises:
            TaskError: where the task has too few prompts for a step.
            PolicyError: where the model is one that packs cannot train.
        """
        self._slots = slots
        self._settings, self._loaded, self._adapters = settings, loaded, adapters
        budget, learner, task = settings.budget, settings.learner, loaded.task
        self._rows = training_rows(loaded, settings)
        if settings.model.dtype == "float16" and torch.cuda.is_available():
            raise PolicyError("packed trials do not scale losses, which float16 needs; use bfloat16")
        self._objective = Objective(
            loss_type=learner.loss_type,
            group_size=budget.group_size,
            max_completion_tokens=task.max_completion_tokens,
            temperature=learner.temperature,
            epsilon=learner.epsilon,
            beta=learner.beta,
            scale_rewards=learner.scale_rewards,
            correction=learner.importance_sampling_correction,
        )
        self._sampler = Sampler(settings=settings, loaded=loaded, adapters=adapters, rows=self._rows)
        self._runs: dict[int, TrialRun] = {}

    def serve(self, feed: TrialFeed) -> None:
        """See `Learner.serve`. Where memory runs short, a pack of half the size goes on."""
        while True:
            try:
                if not self._serve_pack(feed):
                    return
            except Exception as error:
                if not is_out_of_memory(error) or self._slots == 1:
                    raise
            self._slots //= 2
            gc.collect()
            torch.cuda.empty_cache()

    def _serve_pack(self, feed: TrialFeed) -> bool:
        """Serves until the feed has no more trials, or until memory runs short; whether it was the latter."""
        base, model = self._loaded.policy.base, self._settings.model
        packed = pack(base, model.target_modules, slots=self._slots, r_max=model.max_lora_rank)
        was_training = base.training
        try:
            optimizer = PackedAdamW(packed.weights, packed.gradients)
            stepper = self._stepper(packed, optimizer)
            base.train()
            while self._refill(feed, packed, optimizer):
                self._attempt(feed, stepper)
        except PackTooLargeError as told:
            for run in list(self._runs.values()):
                self._fail(feed, run, told)
            return True
        finally:
            for run in list(self._runs.values()):
                self._release(run)
            packed.unpack()
            base.gradient_checkpointing_disable()
            base.train(was_training)
        return False

    def _stepper(self, packed: Pack, optimizer: PackedAdamW) -> Stepper:
        model, learner = self._settings.model, self._settings.learner
        checkpointing = model.gradient_checkpointing != "off"
        if checkpointing:
            packed.model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            packed.model.gradient_checkpointing_disable()
        return Stepper(
            packed,
            optimizer,
            self._objective,
            max_grad_norm=learner.max_grad_norm,
            micro_batch_size=learner.micro_batch_size,
            prompt_once=not checkpointing,
            autocast=functools.partial(_autocast, packed.weights.device, model.dtype),
        )

    def _refill(self, feed: TrialFeed, packed: Pack, optimizer: PackedAdamW) -> bool:
        """Gives free slots to new trials, waiting only where nothing else is to be done; whether any trial runs."""
        while free := set(range(self._slots)) - self._runs.keys():
            spec = feed.take(block=not self._runs)
            if spec is None:
                break
            began, k = time.perf_counter(), min(free)
            log, budget = trial_log(self._settings.log_folder, spec.number), self._settings.budget
            try:
                adapter = SlotAdapter(packed, k, spec.lora, seed=spec.seed, base_name=self._settings.model.path)
            except PolicyError as error:
                log.parent.mkdir(parents=True, exist_ok=True)
                log.write_text(f"{error}\n", encoding="utf-8")
                feed.fail(spec.number, error)
                continue
            except Exception as error:
                if told := self._too_large(error):
                    feed.fail(spec.number, told)
                    raise told from error
                raise
            optimizer.reset(k, spec.learning_rate)
            order = prompt_order(len(self._rows), budget.prompts_per_step, spec.seed)
            self._runs[k] = TrialRun(spec, adapter, order, steps=budget.steps, log=log)
            self._runs[k].seconds["build"] = time.perf_counter() - began
        return bool(self._runs)

    def _attempt(self, feed: TrialFeed, stepper: Stepper) -> None:
        """Takes a round. What goes wrong and is nobody's in particular is everybody's.

        Raises:
            PackTooLargeError: where memory is too short for so many trials at once.
        """
        try:
            self._round(feed, stepper)
        except RewardError:
            raise
        except Exception as error:
            if told := self._too_large(error):
                raise told from error
            for run in list(self._runs.values()):
                self._fail(feed, run, error)

    def _too_large(self, error: BaseException) -> PackTooLargeError | None:
        """What trials are told that are to run again beside fewer others, if that is what an error calls for."""
        if self._slots == 1 or not is_out_of_memory(error):
            return None
        return PackTooLargeError(f"out of memory with {self._slots} trials at once; {self._slots // 2} from here on")

    def _round(self, feed: TrialFeed, stepper: Stepper) -> None:
        """A rollout of every trial, and the optimizer steps that are taken on it."""
        runs = [self._runs[k] for k in sorted(self._runs)]
        with shared_time(runs, "rollout"):
            sampled = self._sampler.sample(runs)
        for run, outcome in zip(runs, sampled, strict=True):
            if isinstance(outcome, EngineError):
                self._fail(feed, run, outcome)
        pairs = [(r, s) for r, s in zip(runs, sampled, strict=True) if isinstance(s, Samples)]
        if not pairs:
            return
        runs, samples = [run for run, _ in pairs], [trial for _, trial in pairs]
        with shared_time(runs, "train"):
            scored = [self._score(feed, run, trial) for run, trial in pairs]
            batch, silent = to_batch(
                samples,
                torch.stack([trial.rewards for trial in scored]),
                self._objective,
                pad=self._loaded.policy.tokenizer.pad_token_id or 0,
                device=self._loaded.policy.base.device,
            )
        for iteration in range(self._settings.learner.num_iterations):
            live = [i for i, run in enumerate(runs) if self._runs.get(run.slot) is run]
            if not live:
                return
            runs, scored, silent = [runs[i] for i in live], [scored[i] for i in live], [silent[i] for i in live]
            batch = batch if len(live) == batch.trials else batch.only(live)
            self._step(feed, stepper, runs, batch, (scored, silent) if iteration == 0 else None)

    def _score(self, feed: TrialFeed, run: TrialRun, samples: Samples) -> Scored:
        try:
            texts = completion_texts(self._loaded.policy.tokenizer, samples.rows, samples.completions)
            return score(samples, texts, self._loaded.rewards)
        except RewardError as error:
            self._fail(feed, run, error)
            raise

    def _step(
        self,
        feed: TrialFeed,
        stepper: Stepper,
        runs: Sequence[TrialRun],
        batch: Batch,
        news: tuple[list[Scored], list[float]] | None,
    ) -> None:
        """One optimizer step, and what follows from it: scores, reports, ends. Reports tell of new samples only."""
        with shared_time(runs, "train"):
            measured = stepper.step([run.slot for run in runs], batch)
        for i, run in enumerate(runs):
            run.step += 1
            try:
                if run.due:
                    self._evaluate(run)
                pruned = False
                if news is not None:
                    scored, silent = news
                    told = metrics(
                        scored[i], silent[i], measured, i, step=run.step, tokens=run.tokens, seconds=run.lap()
                    )
                    run.reported(told)
                    feed.progress(run.spec.number, told)
                    pruned = feed.pruned(run.spec.number)
                if run.spent or pruned:
                    self._evaluate(run)
                    feed.finish(run.spec.number, run.result(adapter=self._adapters.keep(run.owner)))
                    self._release(run)
            except EngineError as error:
                if is_out_of_memory(error):
                    raise
                self._fail(feed, run, error)

    def _evaluate(self, run: TrialRun) -> None:
        """Scores a trial as it is now, unless it has been already."""
        if run.scores and run.scores[-1].step == run.step:
            return
        with shared_time([run], "evaluate"):
            version = self._adapters.publish(run.owner, run.adapter, run.spec.lora.r)
            run.scored(self._loaded.evaluator.score(version, step=run.step, seed=run.spec.seed))

    def _fail(self, feed: TrialFeed, run: TrialRun, error: BaseException) -> None:
        run.log_error(error)
        self._release(run)
        feed.fail(run.spec.number, error)

    def _release(self, run: TrialRun) -> None:
        self._adapters.forget(run.owner)
        run.adapter.packed.clear(run.slot)
        del self._runs[run.slot]


def _autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Forward passes of a GPU's half-precision model run as in TRL's trainer; everything else as it stands."""
    if device.type != "cuda" or dtype == "float32":
        return nullcontext()
    context: AbstractContextManager[Any] = torch.autocast(device.type, getattr(torch, dtype))
    return context
