"""What the trials of a pack train on in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from objectives.learners.packed.prompt_cache import Sequences


@dataclass(slots=True, kw_only=True)
class Batch:
    """What k trials train on, m of the n completions that each has sampled. The first axis is the trial's."""

    prompts: Tensor
    """[k, m/G, P], padded on the left; [k, m, P] where completions are ordered by length, and don't share them."""
    prompt_mask: Tensor
    completions: Tensor
    """[k, m, C], padded on the right; those of a prompt side by side."""
    completion_mask: Tensor
    signal: Tensor
    """[k, m]: 0 for completions that are there to make up numbers, else 1."""
    advantages: Tensor
    """[k, m]."""
    sampled: int
    """n."""
    tokens: Tensor
    """[k]: of all n completions, less those that are masked."""
    sampler_logprobs: Tensor | None = None
    """[k, m, C]: what the engine says, where it is corrected for."""
    longest: Sequence[tuple[int, int]] = ()
    """Tokens of the longest prompt and completion at each of the m places, in any trial; empty where padding
    stays."""
    old: list[Tensor] = field(default_factory=list)
    """For every micro-batch: log-probabilities before the batch's first update."""
    reference: list[Tensor | None] = field(default_factory=list)
    """The same by the base policy."""
    corrections: list[Tensor | None] = field(default_factory=list)
    """Importance weights for the engine, as of the first update."""

    @property
    def trials(self) -> int:
        """How many trials' samples these are."""
        return len(self.completions)

    def only(self, keep: Sequence[int]) -> Batch:
        """The samples of some of the trials."""

        def rows(values: Any) -> Any:
            return [None if value is None else value[list(keep)] for value in values]

        tensors = self.prompts, self.prompt_mask, self.completions, self.completion_mask
        prompts, prompt_mask, completions, completion_mask = rows(tensors)
        return Batch(
            prompts=prompts,
            prompt_mask=prompt_mask,
            completions=completions,
            completion_mask=completion_mask,
            signal=self.signal[list(keep)],
            advantages=self.advantages[list(keep)],
            sampled=self.sampled,
            tokens=self.tokens[list(keep)],
            sampler_logprobs=rows([self.sampler_logprobs])[0],
            # Those of all trials: what is remembered of a micro-batch is as wide as it was.
            longest=self.longest,
            old=rows(self.old),
            reference=rows(self.reference),
            corrections=rows(self.corrections),
        )

    def sequences(self, start: int, stop: int) -> Sequences:
        """Completions from `start` to `stop` of every trial, with their prompts, padded to the longest of these."""
        group = self.completions.shape[1] // self.prompts.shape[1]
        # What a micro-batch takes of a group shares its prompt; where groups don't divide, in smaller shares.
        share = math.gcd(stop - start, group)
        prompts = torch.arange(start, stop, share, device=self.prompts.device) // group
        padded = self.prompts.shape[2], self.completions.shape[2]
        before, after = (max(tokens) for tokens in zip(*(self.longest[start:stop] or [padded]), strict=True))
        return Sequences(
            prompts=self.prompts[:, prompts, -before:].flatten(0, 1),
            prompt_mask=self.prompt_mask[:, prompts, -before:].flatten(0, 1),
            completions=self.completions[:, start:stop, :after].flatten(0, 1),
            completion_mask=self.completion_mask[:, start:stop, :after].flatten(0, 1),
        )
