"""Log-probabilities without all logits at once: the output layer is run on so many tokens at a time.

A token's logits are a number for each word of the vocabulary, held four times over in float32. Of 4,096 tokens of a
vocabulary of 128,256 they would be 8.4 GB, and more than everything else that training keeps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from objectives.learners.packed.grpo import logprobs
from objectives.learners.packed.linear import Pack, PackedLoraLinear
from objectives.settings.pack import LOGITS_AT_ONCE


class Head:
    """A causal language model's output layer, which stands aside while the rest of the model runs."""

    def __init__(self, packed: Pack, *, at_once: int = LOGITS_AT_ONCE) -> None:
        """Sets up.

        Args:
            packed: Whose model it is.
            at_once: Logits that are computed at once. More are computed in parts, and again in the backward pass.
        """
        self._model, self._at_once = packed.model, at_once
        self._head: Any = packed.model.get_output_embeddings()
        # One with adapters takes whole batches, slot after slot.
        self._stands_aside = not isinstance(self._head, PackedLoraLinear)
        if self._stands_aside:
            with packed.adapters_off(), torch.no_grad():
                self._stands_aside = self._is_last(packed.weights.device)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """In this context the model gives the head's input for logits, where nothing comes after the head."""
        if not self._stands_aside:
            yield
            return
        self._model.set_output_embeddings(nn.Identity())
        try:
            yield
        finally:
            self._model.set_output_embeddings(self._head)

    def logprobs(
        self, given: Tensor, tokens: Tensor, temperature: float, *, teach: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies as `grpo.logprobs` has them, of what the model gave with the head aside.

        Args:
            given: Shape [..., C, d].
            tokens: Shape [..., C].
            temperature: The one that tokens were sampled at.
            teach: Whether entropies have gradients, too.
        """
        if not self._stands_aside:
            return logprobs(given, tokens, temperature, teach=teach)
        some = max(1, self._at_once // self._head.weight.shape[0])
        if tokens.numel() <= some:
            return self._of_some(given, tokens, temperature, teach)
        flat = zip(given.flatten(0, -2).split(some), tokens.flatten().split(some), strict=True)
        parts = [
            checkpoint(self._of_some, *part, temperature, teach, use_reentrant=False, preserve_rng_state=False)
            for part in flat
        ]
        logps, entropy = (torch.cat(of_all).view(tokens.shape) for of_all in zip(*parts, strict=True))
        return logps, entropy

    def _of_some(self, given: Tensor, tokens: Tensor, temperature: float, teach: bool) -> tuple[Tensor, Tensor]:
        return logprobs(self._head(given), tokens, temperature, teach=teach)

    def _is_last(self, device: torch.device) -> bool:
        """Whether what the head gives is what the model gives: some models cap or scale it afterwards."""
        tokens = torch.zeros(1, 2, dtype=torch.long, device=device)
        whole = self._model(tokens, use_cache=False).logits
        with self.aside():
            given = self._model(tokens, use_cache=False).logits
        return torch.equal(self._head(given), whole)
