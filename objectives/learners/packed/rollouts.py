"""Completions for all trials of a pack, from one call of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError, is_out_of_memory
from objectives.learners.packed.trial_run import TrialRun
from objectives.settings.sections import WorkerSettings
from objectives.tasks.protocol import Row
from objectives.tokenization.tokens import prompt_ids
from objectives.trial.resources import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """One trial's rollout: n completions, the G of a prompt side by side."""

    rows: Sequence[Row]
    """The row of each completion."""
    prompts: Sequence[Sequence[int]]
    """The tokens of each completion's prompt."""
    completions: Sequence[Completion]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a trial asks the engine for: a completion of each of n prompts, the G of one side by side."""

    run: TrialRun
    rows: Sequence[Row]
    prompts: Sequence[Sequence[int]]
    seeds: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """Asks the engine, for each trial its own prompts with its own adapter and seeds."""

    settings: WorkerSettings
    loaded: Loaded
    adapters: AdapterFolder
    rows: Sequence[Row]
    """What there is to train on."""

    def request(self, run: TrialRun) -> Request:
        """A trial's next prompts."""
        group, tokenizer = self.settings.budget.group_size, self.loaded.policy.tokenizer
        rows = [self.rows[i] for i in next(run.order)]
        prompts = [prompt_ids(tokenizer, row["prompt"]) for row in rows]
        n = len(rows) * group
        return Request(run=run, rows=_each(group, rows), prompts=_each(group, prompts), seeds=run.seeds(n))

    def sample(self, requests: Sequence[Request]) -> list[Samples | EngineError]:
        """One rollout for all trials. If the engine fails it, each tries alone, so that only the culprit fails.

        Raises:
            EngineError: where memory was too short: that is nobody's in particular.
        """
        try:
            return list(self._sample(requests))
        except EngineError as error:
            if is_out_of_memory(error):
                raise
            if len(requests) == 1:
                return [error]
            # The same requests again: prompts and seeds were drawn once, and a second try must not move them.
            return [self.sample([request])[0] for request in requests]

    def _sample(self, requests: Sequence[Request]) -> list[Samples]:
        runs = [request.run for request in requests]
        versions = [self.adapters.publish(run.owner, run.adapter, run.spec.r) for run in runs]
        completions = iter(
            self.loaded.engine.rollout(
                [ids for request in requests for ids in request.prompts],
                [version for request, version in zip(requests, versions, strict=True) for _ in request.prompts],
                Sampling.of(
                    self.settings.learner,
                    max_tokens=self.loaded.task.max_completion_tokens,
                    logprobs=self.settings.learner.importance_sampling_correction != "none",
                ),
                [seed for request in requests for seed in request.seeds],
            )
        )
        samples = []
        for request in requests:
            own = [next(completions) for _ in request.prompts]
            request.run.sampled(own)
            samples.append(Samples(rows=request.rows, prompts=request.prompts, completions=own))
        return samples


def _each(times: int, values: Sequence[Any]) -> list[Any]:
    return [value for value in values for _ in range(times)]
