"""Completions for all trials of a pack, from one call of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectives.adapters import AdapterFolder
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError, is_out_of_memory
from objectives.evaluation import prompt_ids
from objectives.learners.packed.trial_run import TrialRun
from objectives.loading import Loaded
from objectives.settings import WorkerSettings
from objectives.tasks.protocol import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One trial's rollout: n completions, the G of a prompt side by side."""

    rows: Sequence[Row]
    """The row of each completion."""
    prompts: Sequence[Sequence[int]]
    """The tokens of each completion's prompt."""
    completions: Sequence[Completion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Asks the engine, for each trial its own prompts with its own adapter and seeds."""

    settings: WorkerSettings
    loaded: Loaded
    adapters: AdapterFolder
    rows: Sequence[Row]
    """What there is to train on."""

    def sample(self, runs: Sequence[TrialRun]) -> list[Samples | EngineError]:
        """One rollout for all trials. If the engine fails it, each tries alone, so that only the culprit fails.

        Raises:
            EngineError: where memory was too short: that is nobody's in particular.
        """
        return self._tried(runs, [[self.rows[i] for i in next(run.order)] for run in runs])

    def _tried(self, runs: Sequence[TrialRun], rows: Sequence[list[Row]]) -> list[Samples | EngineError]:
        try:
            return list(self._sample(runs, rows))
        except EngineError as error:
            if is_out_of_memory(error):
                raise
            if len(runs) == 1:
                return [error]
            return [self._tried([run], [own])[0] for run, own in zip(runs, rows, strict=True)]

    def _sample(self, runs: Sequence[TrialRun], rows: Sequence[list[Row]]) -> list[Samples]:
        budget, tokenizer = self.settings.budget, self.loaded.policy.tokenizer
        n = budget.completions_per_step
        tokens = [[prompt_ids(tokenizer, row["prompt"]) for row in trial] for trial in rows]
        rows, prompts = ([_each(budget.group_size, trial) for trial in trials] for trials in (rows, tokens))
        versions = [self.adapters.publish(run.owner, run.adapter, run.spec.lora.r) for run in runs]
        completions = self.loaded.engine.rollout(
            [ids for trial in prompts for ids in trial],
            [version for version in versions for _ in range(n)],
            Sampling(
                temperature=self.settings.learner.temperature,
                max_tokens=self.loaded.task.max_completion_tokens,
                logprobs=self.settings.learner.importance_sampling_correction != "none",
            ),
            [seed for run in runs for seed in run.seeds(n)],
        )
        parts = [completions[start : start + n] for start in range(0, len(completions), n)]
        for run, part in zip(runs, parts, strict=True):
            run.sampled(part)
        return [Samples(rows=rows[i], prompts=prompts[i], completions=part) for i, part in enumerate(parts)]


def _each(times: int, values: Sequence[Any]) -> list[Any]:
    return [value for value in values for _ in range(times)]
