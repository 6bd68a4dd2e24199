"""What tasks with free-text answers share: rows in two splits, shuffled, behind the `Task` protocol."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from objectives.errors import TaskError
from objectives.tasks.protocol import RewardFunction, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTask:
    """A task over rows that are at hand. The seed shuffles both splits.

    Raises:
        TaskError: where either split is empty.
    """

    name: str
    max_completion_tokens: int
    reward_functions: Sequence[RewardFunction]
    reward_weights: Sequence[float]
    train: Sequence[Row]
    held_out: Sequence[Row]
    seed: int

    def __post_init__(self) -> None:
        """Refuses empty splits."""
        for split, rows in (("training", self.train), ("held-out", self.held_out)):
            if not rows:
                raise TaskError(f"task {self.name}: the {split} split is empty; give it more rows or another share")

    def train_rows(self, n: int) -> list[Row]:
        """Returns up to `n` training rows."""
        return self._shuffled(self.train, "train")[:n]

    def held_out_rows(self, n: int) -> list[Row]:
        """Returns up to `n` held-out rows."""
        return self._shuffled(self.held_out, "held-out")[:n]

    def _shuffled(self, rows: Sequence[Row], split: str) -> list[Row]:
        # A text seeds Random by its SHA-512, which is the same in every process.
        return random.Random(f"{self.name} {split} {self.seed}").sample(list(rows), k=len(rows))


def as_chat(text: str, system_prompt: str | None) -> list[dict[str, Any]]:
    """A prompt of one user message, after a system message where there is one."""
    system = [] if system_prompt is None else [{"role": "system", "content": system_prompt}]
    return [*system, {"role": "user", "content": text}]


def text_of(completion: Any) -> str:
    """The text of a completion as reward functions get it: a string, or a list of chat messages."""
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
