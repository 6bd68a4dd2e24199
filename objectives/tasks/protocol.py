"""What a task is: rows to train on, rows to evaluate on, and the rewards that score completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = dict[str, Any]
"""One dataset row, as in TRL: "prompt" (a string or a list of chat messages), plus reference columns."""


class RewardFunction(Protocol):
    """Scores a batch of completions, with the signature that TRL calls."""

    @property
    def __name__(self) -> str:
        """The name that this reward is logged under."""

    # With `*args`, a function that names its columns, `f(prompts, completions, answer, **columns)`,
    # also type-checks; callers pass everything by keyword.
    def __call__(
        self, prompts: list[Any], completions: list[Any], *args: Any, **columns: Any
    ) -> Sequence[float | None]:
        """Returns one reward per completion.

        Args:
            prompts: One per completion, so each prompt occurs once for every completion in its group.
            completions: A string each, or a list of chat messages if the prompts are.
            *args: Never passed.
            **columns: The row's other columns, each a list with one entry per completion.

        Returns:
            A reward per completion; None where this reward does not apply to the row.
        """
        ...


class Task(Protocol):
    """Prompts and references in two splits that never overlap, and the rewards to train on.

    Rows depend on nothing but the task's own arguments, its seed among them. Of two calls, the longer
    answer starts with the shorter one.
    """

    @property
    def name(self) -> str:
        """The name in logs and reports; tasks that draw different prompts have different names."""

    @property
    def max_completion_tokens(self) -> int:
        """The longest completion to sample, in tokens, end-of-sequence token included."""

    @property
    def reward_functions(self) -> Sequence[RewardFunction]:
        """The rewards whose weighted sum is the return."""

    @property
    def reward_weights(self) -> Sequence[float]:
        """One weight per reward function, in the same order."""

    def train_rows(self, n: int) -> list[Row]:
        """Returns the first `n` training rows, or all of them if there are fewer."""
        ...

    def held_out_rows(self, n: int) -> list[Row]:
        """Returns the first `n` rows for evaluation only, or all of them if there are fewer."""
        ...
