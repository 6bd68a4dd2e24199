"""Adapters of different ranks, each multiplied at its own: a processor's time goes by the numbers it multiplies.

Padded to the ceiling, an adapter of rank 1 costs what one of rank 64 does. On a GPU, where a launch costs more than
such numbers, batched products over padded stacks stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def add_adapters(
    y: Tensor,
    x: Tensor,
    A: Tensor,  # noqa: N803 - as the paper has it
    B: Tensor,  # noqa: N803
    scaling: Sequence[float],
    ranks: Sequence[int],
) -> Tensor:
    """y_k + s_k x_k A_k^T B_k^T for every slot k, without the rows of A_k and columns of B_k beyond its rank.

    Gradients are those of the padded product: what is padding has a gradient of zero.

    Args:
        y: Shape [K, n, d_out]; changed in place.
        x: Shape [K, n, d_in].
        A: Shape [K, R, d_in].
        B: Shape [K, d_out, R].
        scaling: One a slot.
        ranks: One a slot.
    """
    added: Tensor = _Ranked.apply(y, x, A, B, scaling, ranks)  # type: ignore[no-untyped-call]
    return added


class _Ranked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        x: Tensor,
        A: Tensor,  # noqa: N803
        B: Tensor,  # noqa: N803
        scaling: Sequence[float],
        ranks: Sequence[int],
    ) -> Tensor:
        inner = [(x[k] @ A[k, :r].T).mul_(scaling[k]) for k, r in enumerate(ranks)]  # [n, r] each
        for k, r in enumerate(ranks):
            y[k].addmm_(inner[k], B[k, :, :r].T)
        ctx.save_for_backward(x, A, B, *inner)
        ctx.scaling, ctx.ranks = scaling, ranks
        ctx.mark_dirty(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, A, B, *inner = ctx.saved_tensors  # noqa: N806
        to_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        to_A, to_B = torch.zeros_like(A), torch.zeros_like(B)  # noqa: N806
        for k, r in enumerate(ctx.ranks):
            to_inner = (grad[k] @ B[k, :, :r]).mul_(ctx.scaling[k])  # [n, r]
            torch.mm(to_inner.T, x[k], out=to_A[k, :r])
            to_B[k, :, :r] = grad[k].T @ inner[k]
            if to_x is not None:
                torch.mm(to_inner, A[k, :r], out=to_x[k])
        return grad, to_x, to_A, to_B, None, None
