"""Prompts as tokens: the same for every learner, for scoring and for a first try."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from objectives.errors import TaskError
from objectives.rewards.values import shown_prompt
from objectives.tasks.protocol import RewardFunction, Row, Task


def prompt_ids(tokenizer: Any, prompt: Any) -> list[int]:
    """Tokens of a prompt: plain text as it stands, chat messages through the tokenizer's chat template.

    A chat whose last message is the assistant's is gone on with: the completion continues that message.
    """
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    continued = goes_on(prompt)
    encoded = tokenizer.apply_chat_template(
        as_told(prompt),
        add_generation_prompt=not continued,
        continue_final_message=continued,
        tokenize=True,
        return_dict=True,
    )
    return list(encoded["input_ids"])


def use_template(tokenizer: Any, template: str | None, given: Mapping[str, Any]) -> None:
    """Makes a tokenizer render chats as a study says, whoever asks it to.

    Args:
        tokenizer: The policy's.
        template: Instead of its own; None for its own.
        given: What the template is given besides the messages.
    """
    if template is not None:
        tokenizer.chat_template = template
    if given:
        tokenizer.apply_chat_template = functools.partial(tokenizer.apply_chat_template, **given)


def goes_on(messages: Sequence[dict[str, Any]]) -> bool:
    """Whether a completion continues a chat's last message, because it is the assistant's."""
    return bool(messages[-1]["role"] == "assistant")


def as_told(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A chat as templates get it: without the keys that a message has only because another message has them."""
    return [
        {key: value for key, value in message.items() if value is not None or key == "content"} for message in messages
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooLong:
    """Prompts that are longer than is allowed, and are left out."""

    count: int
    of: int
    limit: int
    tokens: int
    """Of the longest of them."""
    prompt: str
    """The longest, shortened."""

    def __str__(self) -> str:
        are = "are" if self.count > 1 else "is"
        return (
            f"{self.count:,} of {self.of:,} prompts {are} left out: longer than {self.limit:,} tokens; "
            f"the longest has {self.tokens:,}: {self.prompt}"
        )


class FittingTask:
    """A task without the rows whose prompts are too long for the engine."""

    def __init__(self, task: Task, count_tokens: Callable[[Any], int], *, limit: int) -> None:
        """Sets up.

        Args:
            task: All of its rows.
            count_tokens: The length of a prompt.
            limit: The longest prompt, in tokens.
        """
        self._task, self.limit = task, limit
        self._splits = {
            "training": _Split(task.train_rows, count_tokens, limit),
            "held-out": _Split(task.held_out_rows, count_tokens, limit),
        }

    @property
    def name(self) -> str:
        """See `Task.name`."""
        return self._task.name

    @property
    def max_completion_tokens(self) -> int:
        """See `Task.max_completion_tokens`."""
        return self._task.max_completion_tokens

    @property
    def reward_functions(self) -> Sequence[RewardFunction]:
        """See `Task.reward_functions`."""
        return self._task.reward_functions

    @property
    def reward_weights(self) -> Sequence[float]:
        """See `Task.reward_weights`."""
        return self._task.reward_weights

    def train_rows(self, n: int) -> list[Row]:
        """See `Task.train_rows`."""
        return self._rows("training", n)

    def held_out_rows(self, n: int) -> list[Row]:
        """See `Task.held_out_rows`."""
        return self._rows("held-out", n)

    def _rows(self, split: str, n: int) -> list[Row]:
        rows = self._splits[split].first(n)
        if not rows and (too_long := self.too_long()):
            raise TaskError(f"task {self.name}: no {split} prompt is short enough; {too_long}")
        return rows

    def lengths(self) -> list[int]:
        """The length of every prompt that was looked at, in tokens."""
        return [length for split in self._splits.values() for length in split.lengths]

    def too_long(self) -> TooLong | None:
        """What has been left out so far; None where nothing has."""
        lengths = self.lengths()
        longest, prompt = max((split.longest for split in self._splits.values()), key=lambda found: found[0])
        if longest <= self.limit:
            return None
        count = sum(length > self.limit for length in lengths)
        return TooLong(count=count, of=len(lengths), limit=self.limit, tokens=longest, prompt=shown_prompt(prompt))


@dataclass(slots=True)
class _Split:
    """One split's rows, looked at as far as was asked for."""

    take: Callable[[int], list[Row]]
    count_tokens: Callable[[Any], int]
    limit: int
    lengths: list[int] = field(default_factory=list)
    longest: tuple[int, Any] = (0, None)
    _kept: list[Row] = field(default_factory=list)

    def first(self, n: int) -> list[Row]:
        """The first n that are short enough, or all of them if there are fewer."""
        while (missing := n - len(self._kept)) > 0:
            asked = len(self.lengths) + missing
            rows = self.take(asked)
            # A task gives the same first rows however many are asked for: those before were looked at already.
            for row in rows[len(self.lengths) :]:
                self._look_at(row)
            if len(rows) < asked:
                break
        return self._kept[:n]

    def _look_at(self, row: Row) -> None:
        try:
            length = self.count_tokens(row["prompt"])
        # Chat templates refuse in every way that their authors thought of.
        except Exception as error:
            refusing = "tokenizer" if isinstance(row["prompt"], str) else "chat template"
            why = " ".join(str(error).split())[:200]
            raise TaskError(
                f"the model's {refusing} refuses the prompt {shown_prompt(row['prompt'])}: {why}"
            ) from error
        self.lengths.append(length)
        if length > self.longest[0]:
            self.longest = (length, row["prompt"])
        if length <= self.limit:
            self._kept.append(row)


def prompt_limit(*, stated: int | None, max_seq_length: int, max_completion_tokens: int) -> int:
    """The longest prompt that may be used, in tokens: what the study states, else what leaves room for a completion.

    Raises:
        TaskError: where nothing is left, or what is stated does not fit.
    """
    room = max_seq_length - max_completion_tokens
    if room < 1:
        raise TaskError(
            f"completions of {max_completion_tokens} tokens leave no room for a prompt in "
            f"model.max_seq_length={max_seq_length}"
        )
    if stated is not None and stated > room:
        raise TaskError(
            f"max_prompt_tokens={stated} and completions of {max_completion_tokens} tokens exceed "
            f"model.max_seq_length={max_seq_length}; allowed: up to {room}"
        )
    return room if stated is None else stated
