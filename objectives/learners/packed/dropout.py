"""LoRA dropout in a pack: a trial's masks are a function of its seed and its step, whoever trains beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SEEDS = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """What one forward pass of a pack leaves out of the adapters' inputs, as PEFT's `lora_dropout` does."""

    p: float
    """The share that is left out."""
    seeds: tuple[int, ...]
    """Of the pass, one for each slot in it."""
    prompt: int
    """Tokens that prompts are padded to, on the left."""
    longest: int
    """Tokens of the longest prompt that there may be. Masks are drawn for so many, and their last ones used: how far
    neighbours pad a trial's prompts must not move its masks."""
    tokens: int
    """The same of completions, on the right."""

    def __call__(self, x: Tensor, module: int) -> Tensor:
        """Drops entries of x, of shape [K, n, T, d_in], and scales the rest.

        Args:
            x: The inputs of a module's adapters.
            module: Its number. Nothing but this and the seed decides a mask, so that a pass that gradient checkpointing
                runs again drops the same.
        """
        longest = max(self.longest, self.prompt)
        used = slice(longest - self.prompt, longest - self.prompt + x.shape[2])
        masks = []
        for own, seed in zip(x, self.seeds, strict=True):
            # Times a prime, not a plain sum: a seed's next module would else share its mask with the next seed's first.
            generator = torch.Generator(x.device).manual_seed((seed * 1_000_003 + module) % SEEDS)
            n, _, width = own.shape
            drawn = torch.rand(n, longest + self.tokens, width, generator=generator, device=x.device)
            masks.append(drawn[:, used] >= self.p)
        return x * torch.stack(masks) / (1 - self.p)


def dropout_seeds(draws: Sequence[tuple[int, int]], micro_batch: int) -> tuple[int, ...]:
    """A seed for each trial's forward pass.

    Args:
        draws: Each trial's own seed, and the steps that it has done.
        micro_batch: Which one of the step's.
    """
    return tuple(((seed * 1_000_003 + step) * 1_000_003 + micro_batch) % SEEDS for seed, step in draws)
