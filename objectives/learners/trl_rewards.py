"""The study's rewards as TRL's trainer calls them: one function after the other, on its newest rollout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from objectives.engines.protocol import Completion
from objectives.rewards.calling import RewardSet, Table, Unscored, unscored
from objectives.rewards.values import FROM_TRAINER
from objectives.tasks.protocol import Row
from objectives.trial.evaluation import completion_texts


class RolloutRewards:
    """Rewards of the newest rollout.

    TRL is handed row numbers for prompts. Its data sets change rows on the way (a nested column gets the keys that
    other rows have), and rewards would see other rows in training than in scoring.
    """

    def __init__(self, rewards: RewardSet, tokenizer: Any, rows: Sequence[Row]) -> None:
        self._rewards, self._tokenizer, self._rows = rewards, tokenizer, rows
        self._rollout: tuple[list[Row], list[Any], list[list[int]]] = ([], [], [])
        self._table: Table = []
        self.unscored: Unscored | None = None
        """The newest rollout's completions that no function applies to."""

    def rows_of(self, prompts: Sequence[str]) -> list[Row]:
        """The rows that TRL means by its prompts."""
        return [self._rows[int(prompt)] for prompt in prompts]

    def sampled(self, rows: list[Row], completions: Sequence[Completion]) -> None:
        """Takes in a rollout."""
        ids = [list(completion.token_ids) for completion in completions]
        self._rollout = rows, completion_texts(self._tokenizer, rows, completions), ids

    def functions(self) -> list[Callable[..., list[float | None]]]:
        """What TRL is to call, in this order."""
        return [self._function(i, name) for i, name in enumerate(self._rewards.names)]

    def _function(self, i: int, name: str) -> Callable[..., list[float | None]]:
        def call(prompts: list[str], completions: list[str], **passed: Any) -> list[float | None]:
            # TRL calls one function after the other on one rollout; the first call computes the table for all of them.
            if i == 0:
                rows, texts, ids = self._rollout
                trainer = {key: passed[key] for key in FROM_TRAINER}
                self._table = self._rewards.table(rows, texts, ids, trainer=trainer)
                self.unscored = unscored(rows, self._rewards.weigh(self._table))
            return self._table[i]

        call.__name__ = name
        return call
