"""vLLM's CPU adapter arithmetic, once per adapter instead of once per token.

vLLM 0.32's CPU wrapper gathers `weights[indices]`, a copy of the whole adapter for every token, so its cost grows
with tokens x max_lora_rank. Here the tokens of each adapter are multiplied together, and by no more than the
adapter's own rank: the rest of what the engine has reserved for it is zeros. Same numbers, up to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

# Global, because vLLM makes the wrapper itself and hands it the adapters' ids alone.
RANKS: dict[int, int] = {}
"""Ranks of the adapters in the rollout under way, by their ids; an adapter that is not here may have any."""


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of a batch that share an adapter."""

    slot: int
    rows: slice | Tensor
    r: int | None
    """The adapter's rank, None for whatever the engine has reserved."""


def group_rows(indices: Tensor, ids: Sequence[int | None] = ()) -> list[Group]:
    """Groups rows by adapter slot: as slices where an adapter's rows lie side by side, which they mostly do.

    Args:
        indices: Shape [rows], the slot of each row; -1 for rows without an adapter, which get no group.
        ids: The adapter in each slot.
    """
    rank_of = {slot: RANKS.get(i) for slot, i in enumerate(ids) if i is not None}
    slots, counts = torch.unique_consecutive(indices, return_counts=True)
    ends = counts.cumsum(0).tolist()
    runs = [(slot, slice(start, end)) for slot, start, end in zip(slots.tolist(), [0, *ends], ends, strict=False)]
    present = {slot for slot, _ in runs if slot >= 0}
    # More runs than this means interleaved adapters: gathered rows take one product per adapter, slices one per run.
    if len(runs) > 2 * len(present) + 1:
        scattered = ((slot, torch.nonzero(indices == slot).squeeze(1)) for slot in sorted(present))
        return [Group(slot, rows, rank_of.get(slot)) for slot, rows in scattered]
    return [Group(slot, rows, rank_of.get(slot)) for slot, rows in runs if slot >= 0]


class GroupedPunicaWrapperCPU(PunicaWrapperCPU):  # type: ignore[misc]
    """Stands in for vLLM's CPU wrapper; `current_platform.get_punica_wrapper` names it."""

    _token_groups: list[Group]
    _sampler_groups: list[Group]

    def update_metadata(self, mapping: Any, lora_index_to_id: list[int | None], *args: Any, **kwargs: Any) -> None:
        """Groups the rows of the batch that is about to run."""
        super().update_metadata(mapping, lora_index_to_id, *args, **kwargs)
        self._token_groups = group_rows(self.token_lora_indices, lora_index_to_id)
        self._sampler_groups = group_rows(self.sampler_indices, lora_index_to_id)

    def add_lora_linear(
        self,
        y: Tensor,
        x: Tensor,
        lora_a_stacked: tuple[Tensor, ...],
        lora_b_stacked: tuple[Tensor, ...],
        scale: float,
        output_slices: tuple[int, ...],
        *_: Any,
        **__: Any,
    ) -> None:
        """Adds the adapters' part to a linear layer: y (tokens, d_out) += scale * x (tokens, d_in) A^T B^T."""
        x, y, start = x.view(-1, x.shape[-1]), y.view(-1, y.shape[-1]), 0
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            part = y[:, start : start + width]
            for group in self._token_groups:
                _expand(group, part, _shrink(group, x, a, scale), b)
            start += width

    def add_lora_embedding(
        self, y: Tensor, x: Tensor, lora_b_stacked: Tensor, add_inputs: bool = True, **_: Any
    ) -> None:
        """Adds the adapters' part to embeddings: y (tokens, d) += x (tokens, R) B^T."""
        for group in self._token_groups:
            _expand(group, y, x[group.rows, : group.r], lora_b_stacked)

    def add_lora_logits(
        self, y: Tensor, x: Tensor, lora_a_stacked: Tensor, lora_b_stacked: Tensor, scale: float, **_: Any
    ) -> None:
        """Adds the adapters' part to logits: y (requests, vocabulary) += scale * x (requests, d) A^T B^T."""
        y, x = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
        for group in self._sampler_groups:
            _expand(group, y, _shrink(group, x, lora_a_stacked, scale), lora_b_stacked)


def _shrink(group: Group, x: Tensor, a_stacked: Tensor, scale: float) -> Tensor:
    """Multiplies to scale * x (rows, d_in) A^T in float32, for the rows of a group; A: (slots, 1, R, d_in)."""
    # vLLM 0.32's own wrapper keeps what lies between A and B in float32 as well.
    a = a_stacked[group.slot].view(a_stacked.shape[-2:])[: group.r].float()
    return (x[group.rows].float() @ a.T) * scale


def _expand(group: Group, y: Tensor, h: Tensor, b_stacked: Tensor) -> None:
    """Adds h (rows, r) B^T to a group's rows of y; B: (slots, 1, d_out, R)."""
    b = b_stacked[group.slot].view(b_stacked.shape[-2:])[:, : group.r].to(y.dtype)
    # Adapter and model may pad the output differently.
    width, h = min(b.shape[0], y.shape[1]), h.to(y.dtype)
    if isinstance(group.rows, slice):
        y[group.rows, :width].addmm_(h, b[:width].T)
    else:
        y[:, :width].index_add_(0, group.rows, h @ b[:width].T)
