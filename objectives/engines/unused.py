"""The engine of a study that samples nothing: preference pairs are scored by their likelihoods."""

from __future__ import annotations

from collections.abc import Sequence

from objectives.engines.adapter_files import AdapterVersion
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError


class UnusedEngine:
    """Takes no memory, and samples nothing."""

    name = "none"

    def __init__(self, *, max_lora_rank: int) -> None:
        self.max_lora_rank = max_lora_rank

    def rollout(
        self,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[AdapterVersion | None],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """See `Engine.rollout`; refuses.

        Raises:
            EngineError: always.
        """
        raise EngineError("preference pairs without a reward function are not sampled; task.reward names functions")

    def close(self) -> None:
        """There is nothing to close."""
