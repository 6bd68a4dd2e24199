"""The frozen weights' products, by whichever of torch's libraries is the faster on this processor."""

from __future__ import annotations

import functools
import re
from typing import Any

import torch
from torch import Tensor, nn

from objectives.machine import cpuinfo


def frozen_linear(base: nn.Module, x: Tensor) -> Tensor:
    """What a frozen module makes of x, with gradients for x alone."""
    if type(base) is nn.Linear and x.dtype == base.weight.dtype == torch.float32 and x.is_cpu and onednn_is_faster():
        y: Tensor = _OneDnnLinear.apply(x.flatten(0, -2), base.weight, base.bias)  # type: ignore[no-untyped-call]
        return y.view(*x.shape[:-1], -1)
    out: Tensor = base(x)
    return out


@functools.cache
def onednn_is_faster() -> bool:
    """Whether float32 products go to oneDNN: torch's builds for x86-64 give them to MKL.

    On an AMD processor with AVX-512, MKL 2024.2 multiplies with AVX2 alone: 110 GFLOP/s a core beside oneDNN's 240
    (Zen 5, torch 2.13).
    """
    return bool(
        re.search(r"^vendor_id\s*:\s*AuthenticAMD$", cpuinfo(), re.MULTILINE)
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class _OneDnnLinear(torch.autograd.Function):
    """y = x W^T + b by the operator that torch 2.13's compiler emits for a linear module on a processor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        [weight] = ctx.saved_tensors
        return (_product(grad, weight.T, None) if ctx.needs_input_grad[0] else None), None, None


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
