"""GRPO by TRL's GRPOTrainer: one trial at a time, on rollouts from our engine."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from typing import Any

# TRL 1.13 warns that `rollout_func` is experimental.
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from objectives.engines.adapter_files import AdapterFolder, AdapterVersion
from objectives.engines.protocol import Sampling
from objectives.figures import decimals
from objectives.learners.clock import Clock
from objectives.learners.effective_rank import effective_ranks
from objectives.learners.protocol import TrialFeed
from objectives.learners.trackers import tracked
from objectives.learners.trl_metrics import step_metrics
from objectives.learners.trl_objective import check_objective, objective_arguments, restate
from objectives.learners.trl_rewards import RolloutRewards
from objectives.learners.trl_run import one_by_one, run_arguments
from objectives.learners.trl_side_effects import undone
from objectives.policies.residual import factors_of
from objectives.settings.sections import WorkerSettings
from objectives.stages import trials_are
from objectives.tokenization.tokens import prompt_ids
from objectives.trial.evaluation import TRAINING, Due, sampling_seeds
from objectives.trial.messages import HeldOutScore, TrialResult, TrialSpec, trial_name
from objectives.trial.resources import Loaded, training_rows


class _NoRowNumbers(logging.Filter):
    """Keeps back TRL's warning of completions without a reward: it knows no prompts, and ours names one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        return "All reward functions returned None" not in record.getMessage()


logging.getLogger("trl.trainer.grpo_trainer").addFilter(_NoRowNumbers())


class TrlLearner:
    """Trains each trial with a trainer of its own, on the one base model and engine of its worker."""

    def __init__(self, *, settings: WorkerSettings, loaded: Loaded, adapters: AdapterFolder) -> None:
        self._settings = settings
        self._policy = loaded.policy
        self._engine = loaded.engine
        self._task = loaded.task
        self._rewards = loaded.rewards
        self._evaluator = loaded.evaluator
        self._adapters = adapters
        self._rows = training_rows(loaded, settings)

    def serve(self, feed: TrialFeed) -> None:
        """See `Learner.serve`."""
        one_by_one(feed, self._settings, self._policy, self._train)

    def _train(self, spec: TrialSpec, feed: TrialFeed) -> TrialResult:
        clock = Clock()
        trials_are("building", spec.number)
        with clock.section("build"):
            model = self._policy.build(spec.lora, seed=spec.seed)
        rewards = RolloutRewards(self._rewards, self._policy.tokenizer, self._rows)
        run = _Run(learner=self, spec=spec, feed=feed, model=model, clock=clock, rewards=rewards)
        try:
            with tempfile.TemporaryDirectory(prefix="rank-sweep-trl-") as folder, tracked(self._settings, spec):
                with undone(model):
                    trainer = GRPOTrainer(
                        model=model,
                        args=self._arguments(spec, folder),
                        reward_funcs=rewards.functions(),
                        # Row numbers instead of prompts: see RolloutRewards.
                        train_dataset=Dataset.from_dict({"prompt": list(map(str, range(len(self._rows))))}),
                        processing_class=self._policy.tokenizer,
                        rollout_func=run.rollout,
                        callbacks=[run],
                    )
                check_objective(objective_arguments(self._settings.grpo), trainer.args)
                trainer.remove_callback(PrinterCallback)  # it would print every metric of every step
                with clock.section("train"):
                    trainer.train()
            steps = trainer.state.global_step
            # Rollouts and the scores on the way were part of training.
            clock.seconds["train"] -= clock.seconds["rollout"] + clock.seconds["evaluate"]
            run.score(steps, last=True)
            with clock.section("evaluate"):
                base = self._evaluator.base_score(spec.seed, known=spec.base)
            return TrialResult(
                scores=tuple(run.scores),
                steps=steps,
                pruned=steps < self._settings.budget.steps,
                tokens=run.tokens,
                adapter_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
                seconds=dict(clock.seconds),
                adapter=self._adapters.keep(run.owner),
                base=base,
                effective_ranks=effective_ranks(factors_of(self._policy.served())),
            )
        finally:
            self._adapters.forget(run.owner)

    def _arguments(self, spec: TrialSpec, folder: str) -> GRPOConfig:
        learner, budget = self._settings.grpo, self._settings.budget
        micro_batch = learner.micro_batch_size or budget.completions_per_step
        accumulation = budget.completions_per_step // micro_batch
        arguments = GRPOConfig(
            **objective_arguments(learner),
            **run_arguments(self._settings, spec, folder),
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=accumulation,
            # A rollout batch is what one optimiser step trains on, which TRL counts in micro-batches.
            steps_per_generation=accumulation,
            num_generations=budget.group_size,
            max_completion_length=self._task.max_completion_tokens,
            reward_weights=list(self._rewards.weights),
        )
        restate(learner, arguments)
        return arguments


class _Run(TrainerCallback):  # type: ignore[misc]
    """One trial under way: its rollouts, its news to the feed, its scores on the way."""

    def __init__(
        self,
        *,
        learner: TrlLearner,
        spec: TrialSpec,
        feed: TrialFeed,
        model: Any,
        clock: Clock,
        rewards: RolloutRewards,
    ) -> None:
        self._learner, self._spec, self._feed, self._model, self._clock = learner, spec, feed, model, clock
        self._rewards = rewards
        self.owner = trial_name(spec.number)
        self.scores: list[HeldOutScore] = []
        self.tokens = 0
        self._rollouts = 0
        self._completion_length = 0.0
        self._step_began = time.perf_counter()

    def rollout(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, list[list[Any]] | None]:
        """Samples one completion for each row from the policy as it is now; TRL's `rollout_func`."""
        learner, rows = self._learner, self._rewards.rows_of(prompts)
        trials_are("rolling out", self._spec.number)
        with self._clock.section("rollout"):
            ids = [prompt_ids(learner._policy.tokenizer, row["prompt"]) for row in rows]
            version = self._publish()
            completions = learner._engine.rollout(
                ids,
                [version] * len(ids),
                Sampling.of(learner._settings.learner, max_tokens=learner._task.max_completion_tokens),
                sampling_seeds(self._spec.seed, TRAINING, self._rollouts, n=len(ids)),
            )
        trials_are("training", self._spec.number)
        self._rewards.sampled(rows, completions)
        self._rollouts += 1
        self.tokens += sum(len(completion.token_ids) for completion in completions)
        self._completion_length = sum(len(completion.token_ids) for completion in completions) / len(completions)
        rollout: dict[str, list[list[Any]] | None] = {
            "prompt_ids": ids,
            "completion_ids": [list(completion.token_ids) for completion in completions],
            # TRL would correct for the engine by them, and is told to leave that off.
            "logprobs": None,
        }
        if learner._settings.grpo.mask_truncated_completions:
            # TRL takes it for tokens that an environment wrote, and leaves those out of the loss.
            rollout["env_mask"] = [[int(not c.truncated)] * len(c.token_ids) for c in completions]
        return rollout

    def _publish(self) -> AdapterVersion:
        learner = self._learner
        r = self._spec.r * learner._settings.model.served_per_r
        return learner._adapters.publish(self.owner, learner._policy.served(), r)

    def score(self, step: int, *, last: bool) -> None:
        """Scores the policy as it is now on held-out prompts; the last time with a greedy score."""
        trials_are("scoring", self._spec.number)
        with self._clock.section("evaluate"):
            version = self._publish()
            self.scores.append(
                self._learner._evaluator.score(Due(adapter=version, step=step, seed=self._spec.seed, last=last))
            )
        places = decimals(self.scores[-1].spread or 0.0)
        print(f"step {step}: held-out reward {self.scores[-1].sampled:.{places}f}", flush=True)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Scores the trial where it is to be scored on the way."""
        if state.global_step in self._spec.score_after and state.global_step < args.max_steps:
            self.score(state.global_step, last=False)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> Any:
        """Reports a step, and ends the trial if the supervisor has pruned it."""
        # The summary at the end of training has none.
        if "reward" in logs:
            now = time.perf_counter()
            without = self._rewards.unscored
            metrics = step_metrics(
                state.global_step,
                logs,
                tokens=self.tokens,
                completion_length=self._completion_length,
                seconds=now - self._step_began,
                unscored=without.count if without else None,
                beta=self._learner._settings.grpo.beta,
            )
            self._step_began = now
            if without:
                print(f"step {metrics.step}: {without}", flush=True)
            print(
                f"step {metrics.step}/{args.max_steps}: reward {metrics.reward:.{decimals(metrics.reward_std)}f}, "
                f"{metrics.groups_without_signal:.0%} of groups without signal, {metrics.seconds:.2f} s",
                flush=True,
            )
            self._feed.progress(self._spec.number, metrics)
            control.should_training_stop |= self._feed.stopped or self._feed.pruned(self._spec.number)
        return control
