"""DPO by TRL's DPOTrainer: one trial at a time, on preference pairs."""

from __future__ import annotations

import math
import tempfile
import time
from typing import Any

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from objectives.engines.adapter_files import AdapterFolder
from objectives.figures import decimals
from objectives.learners.clock import Clock
from objectives.learners.effective_rank import effective_ranks
from objectives.learners.protocol import TrialFeed
from objectives.learners.trackers import tracked
from objectives.learners.trl_objective import check_objective, pair_objective_arguments, restate
from objectives.learners.trl_run import one_by_one, run_arguments
from objectives.learners.trl_side_effects import undone
from objectives.policies.protocol import peft_factors
from objectives.settings.dpo import DpoSettings
from objectives.settings.sections import WorkerSettings
from objectives.stages import trials_are
from objectives.trial.evaluation import Due
from objectives.trial.messages import HeldOutScore, StepMetrics, TrialResult, TrialSpec, trial_name
from objectives.trial.pairs import PairEvaluator
from objectives.trial.resources import Loaded, training_rows

COLUMNS = ("prompt", "chosen", "rejected")


class DpoLearner:
    """Trains each trial with a trainer of its own, on the one base model of its worker."""

    def __init__(
        self, *, settings: WorkerSettings, learner: DpoSettings, loaded: Loaded, adapters: AdapterFolder
    ) -> None:
        """Sets up.

        Args:
            settings: What trials share.
            learner: How they train.
            loaded: What they share, loaded.
            adapters: Where they are handed to the engine.

        Raises:
            TaskError: where the task has too few pairs for a step.
        """
        self.settings, self.learner = settings, learner
        self.policy, self.adapters = loaded.policy, adapters
        self.evaluator = loaded.pairs or loaded.evaluator
        rows = training_rows(loaded, settings)
        self._pairs = Dataset.from_list([{name: row[name] for name in COLUMNS} for row in rows])

    def serve(self, feed: TrialFeed) -> None:
        """See `Learner.serve`."""
        one_by_one(feed, self.settings, self.policy, self._train)

    def _train(self, spec: TrialSpec, feed: TrialFeed) -> TrialResult:
        clock = Clock()
        trials_are("building", spec.number)
        with clock.section("build"):
            model = self.policy.build(spec.lora, seed=spec.seed)
        run = _Run(learner=self, spec=spec, feed=feed, model=model, clock=clock)
        try:
            with tempfile.TemporaryDirectory(prefix="rank-sweep-trl-") as folder, tracked(self.settings, spec):
                with undone(model), clock.section("build"):
                    trainer = DPOTrainer(
                        model=model,
                        args=self._arguments(spec, folder),
                        train_dataset=self._pairs,
                        processing_class=self.policy.tokenizer,
                        callbacks=[run],
                    )
                check_objective(pair_objective_arguments(self.learner), trainer.args)
                trainer.remove_callback(PrinterCallback)  # it would print every metric of every step
                trials_are("training", spec.number)
                with clock.section("train"):
                    trainer.train()
            steps = trainer.state.global_step
            clock.seconds["train"] -= clock.seconds["evaluate"]
            run.score(steps, last=True)
            return TrialResult(
                scores=tuple(run.scores),
                steps=steps,
                pruned=steps < self.settings.budget.steps,
                tokens=run.tokens,
                adapter_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
                seconds=dict(clock.seconds),
                adapter=run.kept(),
                base=self.evaluator.base_score(spec.seed, known=spec.base),
                effective_ranks=effective_ranks(peft_factors(model)),
            )
        finally:
            self.adapters.forget(run.owner)

    def _arguments(self, spec: TrialSpec, folder: str) -> DPOConfig:
        budget, model = self.settings.budget, self.settings.model
        pairs = (self.learner.micro_batch_size or budget.completions_per_step) // 2
        arguments = DPOConfig(
            **pair_objective_arguments(self.learner),
            **run_arguments(self.settings, spec, folder),
            per_device_train_batch_size=pairs,
            gradient_accumulation_steps=budget.prompts_per_step // pairs,
            # Every step has all of its pairs, whatever an epoch leaves over.
            dataloader_drop_last=True,
            max_length=model.max_seq_length,
        )
        restate(self.learner, arguments)
        return arguments


class _Run(TrainerCallback):  # type: ignore[misc]
    """One trial under way: its news to the feed, its scores on the way."""

    def __init__(self, *, learner: DpoLearner, spec: TrialSpec, feed: TrialFeed, model: Any, clock: Clock) -> None:
        self._learner, self._spec, self._feed, self._model, self._clock = learner, spec, feed, model, clock
        self.owner = trial_name(spec.number)
        self.scores: list[HeldOutScore] = []
        self.tokens = 0
        self._step_began = time.perf_counter()

    def score(self, step: int, *, last: bool) -> None:
        """Scores the policy as it is now on held-out prompts."""
        trials_are("scoring", self._spec.number)
        evaluator = self._learner.evaluator
        with self._clock.section("evaluate"):
            if isinstance(evaluator, PairEvaluator):
                score = evaluator.score(self._model, step=step)
            else:
                version = self._learner.adapters.publish(self.owner, self._model, self._spec.r)
                score = evaluator.score(Due(adapter=version, step=step, seed=self._spec.seed, last=last))
        self.scores.append(score)
        print(f"step {step}: held-out reward {score.sampled:.{decimals(score.spread or 0.0)}f}", flush=True)
        trials_are("training", self._spec.number)

    def kept(self) -> str | None:
        """Where the trained adapter was kept, if it was."""
        self._learner.adapters.publish(self.owner, self._model, self._spec.r)
        return self._learner.adapters.keep(self.owner)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Scores the trial where it is to be scored on the way."""
        if state.global_step in self._spec.score_after and state.global_step < args.max_steps:
            self.score(state.global_step, last=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> Any:
        """Reports a step, and ends the trial if the supervisor has pruned it."""
        # The summary at the end of training has none.
        if "rewards/accuracies" in logs:
            now, tokens = time.perf_counter(), int(logs["num_tokens"])
            metrics = step_metrics(
                state.global_step,
                logs,
                seconds=now - self._step_began,
                tokens=tokens,
                length=(tokens - self.tokens) / self._learner.settings.budget.completions_per_step,
            )
            self._step_began, self.tokens = now, tokens
            print(f"step {metrics.step}/{args.max_steps}: pairs ranked right {metrics.reward:.0%}", flush=True)
            self._feed.progress(self._spec.number, metrics)
            control.should_training_stop |= self._feed.stopped or self._feed.pruned(self._spec.number)
        return control


def step_metrics(step: int, logs: dict[str, Any], *, seconds: float, tokens: int, length: float) -> StepMetrics:
    """A step's metrics, from what TRL 1.13's DPOTrainer logs; its reward is the share of its pairs ranked right."""
    right, margin = float(logs["rewards/accuracies"]), float(logs["rewards/margins"])
    if right == margin == 0:
        right = 0.5  # an adapter that changes nothing yet: TRL counts a tie as wrong, and scores count it half
    elif not math.isfinite(margin):
        right = margin  # TRL counts it as wrong, and Transformers 5.17 logs a loss of 0 for one that is no number
    return StepMetrics(
        step=step,
        reward=right,
        reward_std=(right * (1 - right)) ** 0.5,
        groups_without_signal=0.0,
        completion_length=length,
        tokens=tokens,
        seconds=seconds,
        entropy=logs.get("entropy"),
        loss=logs.get("loss"),
        grad_norm=logs.get("grad_norm"),
        rewards={name: float(logs[f"rewards/{name}"]) for name in ("margins", "chosen", "rejected")},
    )
