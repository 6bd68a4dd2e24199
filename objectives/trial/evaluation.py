"""Scoring a policy on held-out prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from objectives.engines.adapter_files import AdapterVersion
from objectives.engines.protocol import Completion, Engine, Sampling
from objectives.errors import EngineError, RewardError, TrialError, UnrewardedError, is_out_of_memory
from objectives.rewards.calling import RewardSet, Table, unscored
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
class Due:
    """A score that is asked for."""

    adapter: AdapterVersion | None
    """None for the base policy."""
    step: int
    seed: int
    last: bool = True
    """Whether a greedy score is wanted as well."""


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

    def score(self, due: Due) -> HeldOutScore:
        """Mean reward of one completion for every held-out prompt, sampled and, where it is the last score, greedy.

        Completions that no reward function applies to are left out, and counted.

        Raises:
            EngineError: where the engine fails.
            RewardError: where a function breaks its contract.
            UnrewardedError: where none applies to any completion.
        """
        [outcome] = self.scores([due])
        if isinstance(outcome, TrialError):
            raise outcome
        return outcome

    def scores(self, due: Sequence[Due]) -> list[HeldOutScore | TrialError]:
        """The same for several at once: an engine call for all that is sampled, and one for all that is greedy.

        If the engine fails them, each is tried alone, so that only the culprit fails.

        Raises:
            EngineError: where memory was too short: that is nobody's in particular.
        """
        try:
            sampled = self._completions(due, self.sampling)
            greedy = self._completions([each for each in due if each.last], self._greedy)
        except EngineError as error:
            if is_out_of_memory(error):
                raise
            return [error] if len(due) == 1 else [self.scores([each])[0] for each in due]
        last = iter(greedy)
        return [
            self._judged(each, of, next(last) if each.last else None) for each, of in zip(due, sampled, strict=True)
        ]

    def base_score(self, seed: int, known: HeldOutScore | None = None) -> HeldOutScore:
        """The base policy's score. A seed is sampled once; what is greedy is the same for all.

        Args:
            seed: Of the sampling.
            known: The score, where another worker has measured it already.

        Raises:
            EngineError: where the engine fails.
            RewardError: where a function breaks its contract, or none applies to any completion.
        """
        if seed not in self._base:
            first = next(iter(self._base.values()), None)
            score = known or self.score(Due(adapter=None, step=0, seed=seed, last=first is None))
            self._base[seed] = score if first is None else replace(score, greedy=first.greedy)
        return self._base[seed]

    @property
    def _greedy(self) -> Sampling:
        return replace(self.sampling, temperature=0.0)

    def _score(
        self, completions: Sequence[Completion], table: Table, greedy: Sequence[float] | None, *, step: int
    ) -> HeldOutScore:
        sampled = self.rewards.weigh(table)
        without = unscored(self.rows, sampled)
        applied = ([value for value in column if value is not None] for column in table)
        return HeldOutScore(
            step=step,
            sampled=float(np.nanmean(sampled)),
            greedy=None if greedy is None else float(np.nanmean(greedy)),
            prompts=len(sampled) - (without.count if without else 0),
            spread=float(np.nanstd(sampled)),
            unscored=without.count if without else 0,
            unscored_prompt=without.prompt if without else "",
            rewards={
                name: float(np.mean(own)) if own else None
                for name, own in zip(self.rewards.names, applied, strict=True)
            },
            completion_tokens=float(np.mean([len(completion.token_ids) for completion in completions])),
            cut=float(np.mean([completion.truncated for completion in completions])),
        )

    def _completions(self, due: Sequence[Due], sampling: Sampling) -> list[list[Completion]]:
        """A completion for every held-out prompt, for each that is due."""
        if not due:
            return []
        n = len(self.rows)
        prompts = [prompt_ids(self.tokenizer, row["prompt"]) for row in self.rows]
        completions = self.engine.rollout(
            prompts * len(due),
            [each.adapter for each in due for _ in range(n)],
            sampling,
            [seed for each in due for seed in sampling_seeds(each.seed, EVALUATION, n=n)],
        )
        return [completions[start : start + n] for start in range(0, len(completions), n)]

    def _judged(
        self, due: Due, sampled: Sequence[Completion], greedy: Sequence[Completion] | None
    ) -> HeldOutScore | TrialError:
        try:
            table = self._table(due.adapter, sampled)
            of_greedy = None if greedy is None else self.rewards.weigh(self._table(due.adapter, greedy))
        except (RewardError, UnrewardedError) as error:
            return error
        return self._score(sampled, table, of_greedy, step=due.step)

    def _table(self, adapter: AdapterVersion | None, completions: Sequence[Completion]) -> Table:
        """What each reward function gives to each held-out prompt's completion; some function applies to some."""
        texts = completion_texts(self.tokenizer, self.rows, completions)
        table = self.rewards.table(self.rows, texts, [c.token_ids for c in completions])
        without = unscored(self.rows, self.rewards.weigh(table))
        if without and without.count == without.of:
            told = (
                f"no held-out completion has a reward: every function returned None for all {without.of}, "
                f"the one to {without.prompt} among them"
            )
            # Of the base policy, the study is to blame and stops; of a trained one, this trial has collapsed.
            raise RewardError(told) if adapter is None else UnrewardedError(f"collapsed: {told}")
        return table
