"""Calling reward functions: every breach of their contract is named, and none becomes a reward of 0."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from objectives.errors import RewardError
from objectives.tasks.protocol import RewardFunction, Row, Task


def checked(function: RewardFunction) -> RewardFunction:
    """Wraps a reward function so that whatever it does wrong is raised as a RewardError that says what.

    The wrapper can stand in for the function anywhere, TRL's trainer included: it has its name and signature.
    """

    @functools.wraps(function)
    def call(prompts: list[Any], completions: list[Any], *_: Any, **columns: Any) -> Sequence[float | None]:
        try:
            rewards = list(function(prompts=prompts, completions=completions, **columns))
        except Exception as error:
            raise RewardError(f"reward {function.__name__} raised {type(error).__name__}: {error}") from error
        _check(function.__name__, rewards, len(completions))
        return rewards

    return call


def _check(name: str, rewards: Sequence[Any], completions: int) -> None:
    if len(rewards) != completions:
        raise RewardError(f"reward {name} returned {len(rewards)} values for {completions} completions")
    for i, reward in enumerate(rewards):
        if reward is not None and not (isinstance(reward, int | float) and math.isfinite(reward)):
            raise RewardError(f"reward {name} returned {reward!r} for completion {i}; allowed: finite numbers, None")


def total_rewards(
    task: Task, rows: Sequence[Row], completions: Sequence[Any], token_ids: Sequence[Sequence[int]]
) -> list[float]:
    """The weighted sum of the task's rewards for each completion, as TRL computes it.

    Raises:
        RewardError: where a function breaks its contract, or where none applies to a completion.
    """
    columns = {key: [row[key] for row in rows] for key in rows[0] if key != "prompt"}
    prompts = [row["prompt"] for row in rows]
    totals = [0.0] * len(rows)
    applied = [False] * len(rows)
    for function, weight in zip(task.reward_functions, task.reward_weights, strict=True):
        values = checked(function)(prompts, list(completions), completion_ids=[list(t) for t in token_ids], **columns)
        for i, value in enumerate(values):
            if value is not None:
                totals[i] += weight * value
                applied[i] = True
    if not all(applied):
        raise RewardError(f"every reward function returned None for completion {applied.index(False)}")
    return totals
