"""What an engine is: token ids and an adapter in, sampled completions with their log-probabilities out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from objectives.adapters import AdapterVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How completions are sampled. A temperature of 0 is greedy."""

    temperature: float
    max_tokens: int
    logprobs: bool = False
    """Ask for the log-probabilities of what was sampled, too: an engine takes time over them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled completion, end-of-sequence token included where it came to one.

    `logprobs` are those of the distribution that was sampled from, temperature applied: one per token, where they
    were asked for.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] | None = None


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
