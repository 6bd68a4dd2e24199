"""All reward functions of a study, called together: no failure becomes a reward of 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from objectives.errors import RewardError, TaskError
from objectives.rewards.checked import checked, own_name
from objectives.rewards.values import FROM_TRAINER, check_signature, shown_prompt
from objectives.settings.tasks import CommonTaskSettings
from objectives.tasks.protocol import RewardFunction, Row, Task
from objectives.user_code.modules import load_reference

DROPPED_COLUMNS = ("prompt", "completion", "completion_ids")
"""Columns that TRL 1.13 does not pass on: their names stand for something else there."""

Table = list[list[float | None]]
"""Every function's reward for every completion, one list a function; None where it does not apply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unscored:
    """Completions that no reward function applies to, as TRL has it: they count in no mean and in no group."""

    count: int
    of: int
    prompt: str
    """The prompt of one of them, shortened."""

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.of} completions have no reward (every function returned None), one to {self.prompt}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardSet:
    """Checked reward functions, with a weight each. A completion's reward is their weighted sum."""

    functions: tuple[RewardFunction, ...]
    weights: tuple[float, ...]
    max_steps: int = 1
    """Of a trial, for functions that follow its progress."""

    @property
    def names(self) -> tuple[str, ...]:
        """What logs and reports call the functions, in their order."""
        return tuple(function.__name__ for function in self.functions)

    def table(
        self,
        rows: Sequence[Row],
        completions: Sequence[Any],
        token_ids: Sequence[Sequence[int]],
        *,
        trainer: Mapping[str, Any] | None = None,
    ) -> Table:
        """Every function's reward for every completion.

        Args:
            rows: The row of each completion.
            completions: As reward functions get them.
            token_ids: Of each completion.
            trainer: What a trainer passes: `trainer_state`, `log_extra`, `log_metric`. Default: as before a first step.

        Raises:
            RewardError: where a function breaks its contract.
        """
        # A task of the user's own may have rows that lack what others have.
        names = dict.fromkeys(name for row in rows for name in columns_of(row))
        columns = {name: [row.get(name) for row in rows] for name in names}
        return [
            list(
                function(
                    prompts=[row["prompt"] for row in rows],
                    completions=list(completions),
                    completion_ids=[list(tokens) for tokens in token_ids],
                    **columns,
                    **(from_trainer(0, self.max_steps) if trainer is None else trainer),
                )
            )
            for function in self.functions
        ]

    def single(self, i: int) -> RewardSet:
        """The i-th function alone."""
        return replace(self, functions=self.functions[i : i + 1], weights=self.weights[i : i + 1])

    def weigh(self, table: Sequence[Sequence[float | None]]) -> list[float]:
        """The weighted sums of a table, as TRL computes them; NaN for a completion that no function applies to."""
        totals = []
        for values in zip(*table, strict=True):
            applied = [w * v for w, v in zip(self.weights, values, strict=True) if v is not None]
            try:
                totals.append(math.fsum(applied) if applied else math.nan)
            except OverflowError as error:
                raise RewardError(
                    f"rewards of {applied[0]:g} and more add up to more than a number can hold"
                ) from error
        return totals


def columns_of(row: Row) -> list[str]:
    """A row's columns that reward functions get."""
    return [key for key in row if key not in DROPPED_COLUMNS]


def from_trainer(step: int, max_steps: int, *, epoch: float = 0.0) -> dict[str, Any]:
    """What TRL's trainer passes besides columns, for calls that ours make: nothing is logged."""
    from transformers.trainer_callback import TrainerState

    return dict(
        zip(
            FROM_TRAINER,
            (
                TrainerState(global_step=step, max_steps=max_steps, epoch=epoch),
                lambda column, values: None,
                lambda name, value: None,
            ),
            strict=True,
        )
    )


def unscored(rows: Sequence[Row], totals: Sequence[float]) -> Unscored | None:
    """The completions that have no reward; None where all have one."""
    without = [row for row, total in zip(rows, totals, strict=True) if math.isnan(total)]
    if not without:
        return None
    return Unscored(count=len(without), of=len(rows), prompt=shown_prompt(without[0]["prompt"]))


def make_rewards(task: Task, settings: CommonTaskSettings, folders: Sequence[Path], *, max_steps: int = 1) -> RewardSet:
    """The reward functions that the study names, else the task's own.

    Args:
        task: What they are called with.
        settings: Which, with which weights.
        folders: Where the user's modules are looked for.
        max_steps: Of a trial.

    Raises:
        TaskError: where one cannot be imported, is no function, or cannot be called with the task's columns.
    """
    named: dict[str, Any] = {name: load_reference(text, folders) for name, text in settings.named_rewards().items()}
    weights = settings.weights
    if not named:
        named, weights = _numbered(task.reward_functions), tuple(task.reward_weights)
    columns = columns_of(next(iter(task.train_rows(1)), {}))
    for name, function in named.items():
        if not callable(function):
            reference = settings.named_rewards()[name]
            raise TaskError(f"{reference} is a {type(function).__name__}; allowed: a function")
        if isinstance(function, type):
            raise TaskError(f"reward {name} is a class; allowed: a function, or an object that can be called")
        check_signature(function, name, columns)
    return RewardSet(
        functions=tuple(
            checked(function, name=name, timeout_s=settings.reward_timeout_s) for name, function in named.items()
        ),
        weights=weights,
        max_steps=max_steps,
    )


def check_names(guarded: Sequence[str], names: Sequence[str]) -> None:
    """Checks that the reward functions which a verdict looks at by themselves are among those there are.

    Raises:
        TaskError: naming the first that is not.
    """
    if unknown := [name for name in guarded if name not in names]:
        raise TaskError(f"no reward function {unknown[0]!r}, as verdict.guards has it; allowed: {', '.join(names)}")


def reward_names(task: Task, settings: CommonTaskSettings) -> list[str]:
    """What the reward functions of a study are called: those that it names, else the task's own."""
    return list(settings.named_rewards() or _numbered(task.reward_functions))


def _numbered(functions: Sequence[RewardFunction]) -> dict[str, RewardFunction]:
    """A task's own functions by name; what shares a name with one before it is numbered."""
    named: dict[str, RewardFunction] = {}
    for function in functions:
        own = name = own_name(function)
        number = 1
        while name in named:
            number += 1
            name = f"{own}_{number}"
        named[name] = function
    return named
