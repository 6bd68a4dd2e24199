"""Sampling the base policy and rewarding it, before anything is trained: does the reward give a signal at all?"""

from __future__ import annotations

from collections.abc import Sequence

from objectives.engines.protocol import Sampling
from objectives.errors import RewardError
from objectives.rewards.calling import unscored
from objectives.rewards.probe import Samples, probe
from objectives.settings.sections import WorkerSettings
from objectives.tokenization.tokens import prompt_ids
from objectives.trial.evaluation import TRAINING, completion_texts, sampling_seeds
from objectives.trial.preview import Group, Preview
from objectives.trial.resources import Loaded


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
