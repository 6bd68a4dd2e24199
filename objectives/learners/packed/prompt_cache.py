"""Logits of completions, with each prompt run once for all of its completions.

A group's completions share their prompt. Its keys and values are computed once, with gradients, and handed to every
completion, so a step costs P + G C tokens a group instead of G (P + C). Gradients flow back through the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from objectives.errors import PolicyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """Prompts, and the completions of each side by side. A mask is 1 for a token and 0 for padding.

    In a pack, both are laid out slot after slot.
    """

    prompts: Tensor
    """Token ids of shape [p, P], padded on the left."""
    prompt_mask: Tensor
    completions: Tensor
    """Token ids of shape [p * group, C], padded on the right."""
    completion_mask: Tensor

    @property
    def group(self) -> int:
        """Completions a prompt."""
        return len(self.completions) // len(self.prompts)


def completion_logits(model: Any, sequences: Sequences) -> Tensor:
    """Logits that the completions' tokens were drawn from, shape [p * group, C, V]; each prompt is run once.

    Raises:
        PolicyError: where the model leaves the cache empty, as Transformers does, with no more than a warning,
            under gradient checkpointing: completions would then not see their prompts.
    """
    cache = DynamicCache(config=model.config)
    mask = sequences.prompt_mask
    first: Tensor = model(
        input_ids=sequences.prompts,
        attention_mask=mask,
        position_ids=_positions(mask),
        past_key_values=cache,
        use_cache=True,
        # Of the prompt's logits only the last are of a completion's token.
        logits_to_keep=1,
    ).logits[:, -1:]
    if cache.get_seq_length() != sequences.prompts.shape[1]:
        raise PolicyError(
            f"{type(model).__name__} left the prompts' cache at {cache.get_seq_length()} of "
            f"{sequences.prompts.shape[1]} tokens; switch gradient checkpointing off"
        )
    first = first.repeat_interleave(sequences.group, dim=0)  # [p * group, 1, V]
    # Its only token is predicted by the prompt: a second pass would have none to read.
    if sequences.completions.shape[1] == 1:
        return first
    cache.batch_repeat_interleave(sequences.group)
    # The last token is predicted, and predicts nothing.
    # [p * group, P + C - 1]: the prompts' part stands for what the cache holds of them.
    mask = torch.cat([mask.repeat_interleave(sequences.group, dim=0), sequences.completion_mask[:, :-1]], dim=1)
    rest = model(
        input_ids=sequences.completions[:, :-1],
        attention_mask=mask,
        position_ids=_positions(mask)[:, sequences.prompts.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    ).logits
    return torch.cat([first, rest], dim=1)


def plain_completion_logits(model: Any, sequences: Sequences) -> Tensor:
    """The same, with a prompt run again for each of its completions; this works with gradient checkpointing."""
    prompts = sequences.prompts.repeat_interleave(sequences.group, dim=0)
    mask = torch.cat(
        [sequences.prompt_mask.repeat_interleave(sequences.group, dim=0), sequences.completion_mask], dim=1
    )
    length = sequences.completions.shape[1]
    logits: Tensor = model(
        input_ids=torch.cat([prompts, sequences.completions], dim=1)[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=_positions(mask)[:, :-1],
        use_cache=False,
        logits_to_keep=length,
    ).logits
    return logits[:, -length:]


def _positions(mask: Tensor) -> Tensor:
    """Positions that count from a sequence's own first token, so that they depend on no neighbour's length."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)
