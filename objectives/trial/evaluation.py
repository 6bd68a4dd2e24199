"""Scoring a policy on held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from objectives.engines.adapter_files import AdapterVersion
from objectives.engines.protocol import Completion, Engine, Sampling
from objectives.errors import RewardError, UnrewardedError
from objectives.rewards.calling import RewardSet, unscored
from objectives.tasks.protocol import Row
from objectives.tokenization.tokens import prompt_ids
from objectives.trial.messages import HeldOutScore


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
    # Seeds that are counted up from the key would meet those of other trials: repetition k has the study's seed plus k.
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
    rows: Sequence[Row]
    sampling: Sampling
    _base: dict[int, HeldOutScore] = field(default_factory=dict, init=False)

    def score(self, adapter: AdapterVersion, *, step: int, seed: int, last: bool = True) -> HeldOutScore:
        """Mean reward of one completion for every held-out prompt, sampled and, where it is the last score, greedy.

        Completions that no reward function applies to are left out, and counted.

        Raises:
            RewardError: where a function breaks its contract.
            UnrewardedError: where none applies to any completion.
        """
        sampled = self._rewards(adapter, self.sampling, seed)
        return self._score(sampled, self._rewards(adapter, self._greedy, seed) if last else None, step=step)

    def base_score(self, seed: int) -> HeldOutScore:
        """The base policy's score. A seed is sampled once; what is greedy is the same for all.

        Raises:
            RewardError: where a function breaks its contract, or none applies to any completion.
        """
        if seed not in self._base:
            sampled = self._rewards(None, self.sampling, seed)
            known = next(iter(self._base.values()), None)
            if known is None:
                self._base[seed] = self._score(sampled, self._rewards(None, self._greedy, seed), step=0)
            else:
                self._base[seed] = replace(self._score(sampled, None, step=0), greedy=known.greedy)
        return self._base[seed]

    @property
    def _greedy(self) -> Sampling:
        return replace(self.sampling, temperature=0.0)

    def _score(self, sampled: Sequence[float], greedy: Sequence[float] | None, *, step: int) -> HeldOutScore:
        without = unscored(self.rows, sampled)
        return HeldOutScore(
            step=step,
            sampled=float(np.nanmean(sampled)),
            greedy=None if greedy is None else float(np.nanmean(greedy)),
            prompts=len(sampled) - (without.count if without else 0),
            spread=float(np.nanstd(sampled)),
            unscored=without.count if without else 0,
            unscored_prompt=without.prompt if without else "",
        )

    def _rewards(self, adapter: AdapterVersion | None, sampling: Sampling, seed: int) -> list[float]:
        """A reward for every held-out prompt; NaN where no function applies."""
        completions = self.engine.rollout(
            [prompt_ids(self.tokenizer, row["prompt"]) for row in self.rows],
            [adapter] * len(self.rows),
            sampling,
            sampling_seeds(seed, EVALUATION, n=len(self.rows)),
        )
        texts = completion_texts(self.tokenizer, self.rows, completions)
        totals = self.rewards.totals(self.rows, texts, [c.token_ids for c in completions])
        without = unscored(self.rows, totals)
        if without and without.count == without.of:
            told = (
                f"no held-out completion has a reward: every function returned None for all {without.of}, "
                f"the one to {without.prompt} among them"
            )
            # Of the base policy, the study is to blame and stops; of a trained one, this trial has collapsed.
            raise RewardError(told) if adapter is None else UnrewardedError(f"collapsed: {told}")
        return totals
