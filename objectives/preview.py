"""Sampling the base policy and rewarding it, before anything is trained: does the reward give a signal at all?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectives.engines.protocol import Sampling
from objectives.errors import RewardError
from objectives.rewards.calling import unscored
from objectives.rewards.probe import Samples, probe
from objectives.settings.sections import WorkerSettings
from objectives.tokenization.tokens import prompt_ids
from objectives.trial.evaluation import TRAINING, completion_texts, sampling_seeds
from objectives.trial.resources import Loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One prompt, its completions, and every reward function's value for each completion."""

    prompt: Any
    completions: tuple[Any, ...]
    rewards: dict[str, tuple[float | None, ...]]
    totals: tuple[float, ...]
    """The weighted sum for each completion; NaN where no function applies."""
    truncated: int
    """Completions that were cut at the longest length."""

    @property
    def has_signal(self) -> bool:
        """Whether the completions' rewards differ, so that GRPO's advantages are not all zero."""
        scored = [total for total in self.totals if not math.isnan(total)]
        return len(scored) > 1 and max(scored) - min(scored) > 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the base policy does on training prompts."""

    groups: tuple[Group, ...]
    warnings: tuple[str, ...] = ()
    """What a study would trip over, a sentence each."""

    @property
    def share_with_signal(self) -> float:
        """Share of groups in [0, 1] that GRPO can learn from."""
        return statistics.fmean(group.has_signal for group in self.groups)

    @property
    def share_truncated(self) -> float:
        """Share of completions in [0, 1] that were cut at the longest length."""
        return sum(group.truncated for group in self.groups) / sum(len(group.totals) for group in self.groups)

    @property
    def mean(self) -> float:
        """Mean reward over all completions that have one."""
        return statistics.fmean(total for group in self.groups for total in group.totals if not math.isnan(total))

    @property
    def spread(self) -> float:
        """Standard deviation of the reward over all completions that have one."""
        return statistics.pstdev(total for group in self.groups for total in group.totals if not math.isnan(total))

    def by_function(self) -> dict[str, tuple[float | None, float | None]]:
        """Mean and standard deviation of each reward function, over the completions that it applies to."""
        found: dict[str, tuple[float | None, float | None]] = {}
        for name in self.groups[0].rewards:
            values = [v for group in self.groups for v in group.rewards[name] if v is not None]
            found[name] = (statistics.fmean(values), statistics.pstdev(values)) if values else (None, None)
        return found


def sample(loaded: Loaded, settings: WorkerSettings, *, prompts: int) -> Preview:
    """Samples a group of completions for each of the first training prompts, and rewards them.

    Raises:
        RewardError: where a reward function breaks its contract.
    """
    rows = loaded.task.train_rows(min(prompts, settings.task.train_prompts))
    repeated = [row for row in rows for _ in range(settings.budget.group_size)]
    tokenizer = loaded.policy.tokenizer
    completions = loaded.engine.rollout(
        [prompt_ids(tokenizer, row["prompt"]) for row in repeated],
        [None] * len(repeated),
        Sampling.of(settings.learner, max_tokens=loaded.task.max_completion_tokens),
        sampling_seeds(settings.seed, TRAINING, n=len(repeated)),
    )
    texts = completion_texts(tokenizer, repeated, completions)
    table, warnings = probe(
        loaded.rewards,
        Samples(rows=repeated, completions=texts, token_ids=[c.token_ids for c in completions]),
        group_size=settings.budget.group_size,
        largest_call=max(len(loaded.evaluator.rows), settings.budget.completions_per_step),
        timeout_s=settings.task.reward_timeout_s,
    )
    totals = loaded.rewards.weigh(table)
    if without := unscored(repeated, totals):
        if without.count == without.of:
            raise RewardError(f"no completion has a reward: every function returned None for all {without.of}")
        warnings.append(f"{without}.")
    if left_out := loaded.facts.get("prompts", {}).get("left_out"):
        warnings.append(f"{left_out}.")
    size = settings.budget.group_size
    return Preview(
        groups=tuple(
            Group(
                prompt=row["prompt"],
                completions=tuple(texts[part]),
                rewards=_part(loaded.rewards.names, table, part),
                totals=tuple(totals[part]),
                truncated=sum(completion.truncated for completion in completions[part]),
            )
            for row, part in zip(rows, (slice(i * size, (i + 1) * size) for i in range(len(rows))), strict=True)
        ),
        warnings=tuple(warnings),
    )


def _part(
    names: Sequence[str], table: Sequence[Sequence[float | None]], part: slice
) -> dict[str, tuple[float | None, ...]]:
    return {name: tuple(values[part]) for name, values in zip(names, table, strict=True)}
