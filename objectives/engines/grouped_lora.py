"""vLLM's CPU adapter arithmetic, once per adapter instead of once per token.

vLLM 0.32's CPU wrapper gathers `weights[indices]`, a copy of the whole adapter for every token, so its cost grows
with tokens x max_lora_rank. Here the tokens of each adapter are multiplied together. Same numbers, up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

Groups = list[tuple[int, torch.Tensor | slice]]
"""For each adapter slot in the batch: the slot, and the rows that use it."""


def group_rows(indices: torch.Tensor) -> Groups:
    """Groups rows by adapter slot.

    Args:
        indices: shape (rows,), the slot of each row; -1 for rows without an adapter, which get no group.
    """
    slots = torch.unique(indices).tolist()
    if len(slots) == 1:
        return [] if slots[0] < 0 else [(slots[0], slice(None))]
    return [(slot, torch.nonzero(indices == slot).squeeze(1)) for slot in slots if slot >= 0]


class GroupedPunicaWrapperCPU(PunicaWrapperCPU):  # type: ignore[misc]
    """Stands in for vLLM's CPU wrapper; `current_platform.get_punica_wrapper` names it."""

    _token_groups: Groups
    _sampler_groups: Groups

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """Groups the rows of the batch that is about to run."""
        super().update_metadata(*args, **kwargs)
        self._token_groups = group_rows(self.token_lora_indices)
        self._sampler_groups = group_rows(self.sampler_indices)

    def _apply_shrink(self, y: torch.Tensor, x: torch.Tensor, w_t_all: torch.Tensor, scale: float) -> None:
        _shrink(self._token_groups, y.view(-1, y.shape[-1]), x, w_t_all, scale)

    def _apply_expand(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        w_t_all: torch.Tensor,
        y_offset: int,
        y_slice_size: int,
        add_inputs: bool = True,
    ) -> None:
        _expand(self._token_groups, y[:, y_offset : y_offset + y_slice_size], x, w_t_all, add_inputs)

    def add_lora_embedding(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        add_inputs: bool = True,
        **_: Any,
    ) -> None:
        """Adds the adapters' part to embeddings: y (tokens, d) += x (tokens, R) B^T."""
        _expand(self._token_groups, y, x, lora_b_stacked, add_inputs)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **_: Any,
    ) -> None:
        """Adds the adapters' part to logits: y (requests, vocabulary) += scale * x (requests, d) A^T B^T."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        buffer = x.new_zeros((x.shape[0], lora_a_stacked.shape[-2]), dtype=torch.float32)
        _shrink(self._sampler_groups, buffer, x, lora_a_stacked, scale)
        _expand(self._sampler_groups, y, buffer, lora_b_stacked, add_inputs=True)


def _shrink(groups: Groups, y: torch.Tensor, x: torch.Tensor, a_stacked: torch.Tensor, scale: float) -> None:
    """Sets y (rows, R) to scale * x (rows, d_in) A^T; A: (slots, 1, R, d_in). Other rows keep their zeros."""
    for slot, rows in groups:
        a = a_stacked[slot].view(a_stacked.shape[-2:]).to(y.dtype)
        y[rows, : a.shape[0]] = scale * (x[rows].to(y.dtype) @ a.T)


def _expand(groups: Groups, y: torch.Tensor, x: torch.Tensor, b_stacked: torch.Tensor, add_inputs: bool) -> None:
    """Adds x (rows, R) B^T to y (rows, d_out), or sets y to it; B: (slots, 1, d_out, R)."""
    for slot, rows in groups:
        b = b_stacked[slot].view(b_stacked.shape[-2:]).to(y.dtype)
        # Adapter and model may pad the output differently.
        width = min(b.shape[0], y.shape[1])
        part = x[rows].to(y.dtype) @ b[:width].T
        if isinstance(rows, slice):
            target = y[:, :width]
            target.add_(part) if add_inputs else target.copy_(part)
        elif add_inputs:
            y[:, :width].index_add_(0, rows, part)
        else:
            y[:, :width].index_copy_(0, rows, part)
