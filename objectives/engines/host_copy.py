"""Many small tensors from a GPU in one go: each copy of its own would wait for everything that runs there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def host_copy(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of these tensors, which are of one number format, on the CPU. They are parts of one."""
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors.values()]).cpu()
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(tensors.items(), parts, strict=True)}
