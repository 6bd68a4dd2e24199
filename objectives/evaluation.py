"""Scoring a policy on held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectives.adapters import AdapterVersion
from objectives.engines.protocol import Completion, Engine, Sampling
from objectives.errors import RewardError
from objectives.prompts import prompt_ids
from objectives.rewards import RewardSet, Unscored, unscored
from objectives.tasks.protocol import Row
from objectives.trial import HeldOutScore


def completion_texts(tokenizer: Any, rows: Sequence[Row], completions: Sequence[Completion]) -> list[Any]:
    """Completions as reward functions get them: a string, or a list of one chat message if the prompt is chat."""
    texts = tokenizer.batch_decode([list(c.token_ids) for c in completions], skip_special_tokens=True)
    return [
        text if isinstance(row["prompt"], str) else [{"role": "assistant", "content": text}]
        for row, text in zip(rows, texts, strict=True)
    ]


EVALUATION, TRAINING = 0, 1
"""What a sampling seed is for: evaluation and training never share one."""


def sampling_seeds(*key: int, n: int) -> list[int]:
    """Independent seeds for n completions, a function of the key alone."""
    return [int(seed) for seed in np.random.SeedSequence(key).generate_state(n, np.uint32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluator:
    """Scores adapters on the same held-out prompts.

    The seed of a score decides its sampling alone: trials that share a seed are paired, and the sampling noise
    of trials that don't is independent, so that it averages out over seeds.
    """

    engine: Engine
    tokenizer: Any
    rewards: RewardSet
    max_completion_tokens: int
    rows: Sequence[Row]
    temperature: float

    def score(self, adapter: AdapterVersion | None, *, step: int, seed: int) -> HeldOutScore:
        """Mean reward of one completion for every held-out prompt, sampled and greedy.

        Completions that no reward function applies to are left out, and counted.

        Raises:
            RewardError: where a function breaks its contract, or none applies to any completion.
        """
        sampled, without = self._mean(adapter, self.temperature, seed)
        greedy, _ = self._mean(adapter, 0.0, seed)
        return HeldOutScore(
            step=step,
            sampled=sampled,
            greedy=greedy,
            prompts=len(self.rows),
            unscored=without.count if without else 0,
            unscored_prompt=without.prompt if without else "",
        )

    def _mean(self, adapter: AdapterVersion | None, temperature: float, seed: int) -> tuple[float, Unscored | None]:
        completions = self.engine.rollout(
            [prompt_ids(self.tokenizer, row["prompt"]) for row in self.rows],
            [adapter] * len(self.rows),
            Sampling(temperature=temperature, max_tokens=self.max_completion_tokens),
            sampling_seeds(seed, EVALUATION, n=len(self.rows)),
        )
        texts = completion_texts(self.tokenizer, self.rows, completions)
        totals = self.rewards.totals(self.rows, texts, [c.token_ids for c in completions])
        without = unscored(self.rows, totals)
        if without and without.count == without.of:
            raise RewardError(
                f"no held-out completion has a reward: every function returned None for all {without.of}, "
                f"the one to {without.prompt} among them"
            )
        return float(np.nanmean(totals)), without
