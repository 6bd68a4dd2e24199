"""What an engine is: token ids and an adapter in, sampled completions with their log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from objectives.engines.adapter_files import AdapterVersion
from objectives.settings.learner import LearnerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are sampled. A temperature of 0 is greedy, and then only `stop` says more."""

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    """Sample from the likeliest tokens that have this probability together."""
    top_k: int = 0
    """Sample from so many of the likeliest tokens; 0 for all."""
    min_p: float = 0.0
    """Leave out tokens whose probability is below this share of the likeliest one's."""
    repetition_penalty: float = 1.0
    """What the logits of tokens that were there before, prompt included, are divided by; multiplied, below zero."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion. They stay part of it."""
    logprobs: bool = False
    """Ask for the log-probabilities of what was sampled, too: an engine takes time over them."""

    @classmethod
    def of(cls, learner: LearnerSettings, *, max_tokens: int, logprobs: bool = False) -> Self:
        """How a study samples, in training and for its scores."""
        return cls(
            temperature=learner.temperature,
            max_tokens=max_tokens,
            top_p=learner.top_p,
            top_k=max(0, learner.top_k),
            min_p=learner.min_p,
            repetition_penalty=learner.repetition_penalty,
            stop=learner.stop,
            logprobs=logprobs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled completion, end-of-sequence token included where it came to one.

    `logprobs` are those of the distribution that was sampled from, temperature and all else applied: one per token,
    where they were asked for.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None
    truncated: bool = False
    """Whether it was cut at the longest length, instead of coming to an end."""


class Engine(Protocol):
    """Samples from one base model with any adapter up to `max_lora_rank`, a different one per prompt."""

    @property
    def name(self) -> str:
        """The name that reports print."""

    @property
    def max_lora_rank(self) -> int:
        """The largest rank that this engine can serve."""

    def rollout(
        self,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[AdapterVersion | None],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """Samples one completion for each prompt.

        Args:
            prompts: Token ids.
            adapters: The adapter for each prompt, None for the base policy.
            sampling: Shared by all prompts.
            seeds: One per prompt; a completion depends on its own seed, not on its neighbours'.

        Raises:
            EngineError: where the engine refuses an adapter or a prompt.
        """
        ...

    def close(self) -> None:
        """Gives back what the engine holds."""
        ...
