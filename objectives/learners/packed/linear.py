"""Frozen linear modules that carry a stack of LoRA adapters, one a slot, each on its own share of the batch.

Letters for shapes: K slots, n sequences a slot, T tokens a sequence, R the ceiling that ranks are padded to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from objectives.errors import PolicyError
from objectives.learners.packed.dropout import Dropout
from objectives.learners.packed.selection import Selection, stretches


class PackedLoraLinear(nn.Module):
    """A frozen linear module with K adapters: y = W x + s_k B_k A_k x for a sequence of slot k (Hu et al., 2021).

    A slot's rank may be anything up to R. Rows of A and columns of B beyond it are zero, and stay zero: what
    reaches them in the backward pass has been multiplied by the other's zeros, and AdamW moves nothing by nothing.
    """

    scaling: Tensor

    def __init__(
        self, base: nn.Module, factors: tuple[Tensor, Tensor], scaling: Tensor, selection: Selection, index: int = 0
    ) -> None:
        """Wraps `base`.

        Args:
            base: Any module that maps [..., d_in] to [..., d_out]; nn.Linear or bitsandbytes' Linear4bit.
            factors: A of shape [K, R, d_in] and B of shape [K, d_out, R].
            scaling: Shape [K]; what each slot's adapter is multiplied by.
            selection: Which slots take part.
            index: The module's number in its pack.
        """
        super().__init__()
        self.base = base
        self.lora_A, self.lora_B = map(nn.Parameter, factors)
        self.register_buffer("scaling", scaling, persistent=False)
        self.selection, self.index = selection, index

    def forward(self, x: Tensor) -> Tensor:
        """Maps [K*n, T, d_in], laid out slot after slot, to [K*n, T, d_out]."""
        y: Tensor = self.base(x)
        if not self.selection.enabled:
            return y
        A, B, s = map(self.selection.of, (self.lora_A, self.lora_B, self.scaling))  # noqa: N806 - as the paper has it
        # Adapters compute in their own format, as PEFT's do, unless autocast is there to choose.
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(A.dtype)
        if self.selection.dropout is not None:
            # [K, n, T, d_in]: a slot's mask is of its own seed, so slots are told apart.
            x = self.selection.dropout(x.unflatten(0, (len(A), -1)), self.index)
        xs = x.reshape(len(A), -1, x.shape[-1])  # [K, n*T, d_in]
        h = torch.bmm(xs, A.mT)  # [K, n*T, R]
        # Scaled here, where a token has R numbers, and not at the output, where it has d_out. In float32, as PEFT
        # multiplies by a number of Python's, and back to what autocast has made of it.
        h = (h * s.view(-1, 1, 1)).to(h.dtype)
        # One kernel adds to the base's output, without a tensor of its size in between.
        if y.dtype == h.dtype:
            return torch.baddbmm(y.reshape(len(A), -1, y.shape[-1]), h, B.mT).view(y.shape)
        return (y + torch.bmm(h, B.mT).view(y.shape)).to(y.dtype)

    def set_slot(self, k: int, A: Tensor, B: Tensor, scaling: float) -> None:  # noqa: N803
        """Puts an adapter into slot k.

        Args:
            k: The slot.
            A: Shape [r, d_in].
            B: Shape [d_out, r].
            scaling: What its output is multiplied by.

        Raises:
            PolicyError: where r is above the ceiling.
        """
        r, ceiling = len(A), self.lora_A.shape[1]
        if r > ceiling:
            raise PolicyError(f"r={r} exceeds the pack's ceiling of {ceiling}")
        with torch.no_grad():
            self.lora_A[k, :r], self.lora_A[k, r:] = A, 0
            self.lora_B[k, :, :r], self.lora_B[k, :, r:] = B, 0
            self.scaling[k] = scaling

    def slot(self, k: int, r: int) -> tuple[Tensor, Tensor]:
        """The first r ranks of slot k: views of shapes [r, d_in] and [d_out, r]."""
        return self.lora_A.detach()[k, :r], self.lora_B.detach()[k, :, :r]


class Pack:
    """A model whose linear modules have become packed ones, and what it takes to undo that."""

    def __init__(self, model: Any, modules: dict[str, PackedLoraLinear], weights: Tensor, selection: Selection) -> None:
        self.model = model
        self.modules = modules
        """By their names in the base model."""
        self.weights = weights
        """Shape [K, N]: every slot's adapter in one row. All `lora_A` and `lora_B` are views of it."""
        self.gradients = torch.zeros_like(weights)
        """Shape [K, N], laid out as `weights`."""
        self._selection = selection
        self._trainable: list[nn.Parameter] = []

    @property
    def slots(self) -> int:
        """K."""
        return len(self.weights)

    def factors(self, row: Tensor, r: int) -> dict[str, tuple[Tensor, Tensor]]:
        """What a row that is laid out as a slot's in `weights` holds for each module, by its name.

        Args:
            row: Shape [N].
            r: The ranks that are wanted.

        Returns:
            Views of shapes [r, d_in] and [d_out, r].
        """
        found, offset = {}, 0
        for name, module in self.modules.items():
            parts = []
            for parameter in (module.lora_A, module.lora_B):
                size = parameter[0].numel()
                parts.append(row[offset : offset + size].view(parameter.shape[1:]))
                offset += size
            found[name] = parts[0][:r], parts[1][:, :r]
        return found

    def collect_gradients(self, rows: slice = slice(None)) -> None:
        """Moves what backward passes have left on the modules' A and B into `gradients`, for these slots."""
        offset = 0
        for module in self.modules.values():
            for parameter in (module.lora_A, module.lora_B):
                size = parameter[0].numel()
                own = self.gradients[rows, offset : offset + size].unflatten(1, parameter.shape[1:])
                # None where no pass went through the module: what lies here is of an earlier step.
                own.zero_() if parameter.grad is None else own.copy_(parameter.grad[rows])
                parameter.grad = None
                offset += size

    @contextmanager
    def selected(self, slots: Sequence[int]) -> Iterator[None]:
        """Forward passes in this context hold sequences of these slots only, in this order."""
        rows = stretches(slots)
        self._selection.slots = rows[0] if len(rows) == 1 else torch.tensor(list(slots), device=self.weights.device)
        try:
            yield
        finally:
            self._selection.slots = slice(None)

    @contextmanager
    def adapters_off(self) -> Iterator[None]:
        """Forward passes in this context are those of the base model."""
        self._selection.enabled = False
        try:
            yield
        finally:
            self._selection.enabled = True

    @contextmanager
    def dropping(self, dropout: Dropout) -> Iterator[None]:
        """Forward passes in this context drop some of the adapters' inputs."""
        self._selection.dropout = dropout
        try:
            yield
        finally:
            self._selection.dropout = None

    def clear(self, k: int) -> None:
        """Empties slot k: an adapter of zeros, which leaves its sequences to the base."""
        self.weights[k] = 0
        self.gradients[k] = 0

    def unpack(self) -> None:
        """Puts the base model's own modules back where they were."""
        for name, module in self.modules.items():
            self.model.set_submodule(name, module.base)
        for parameter in self._trainable:
            parameter.requires_grad_(True)


def pack(model: Any, target_modules: Sequence[str], *, slots: int, r_max: int) -> Pack:
    """Replaces a model's linear modules in place by packed ones, all slots empty, and freezes everything else.

    Args:
        model: A causal language model, without adapters.
        target_modules: Last parts of the names of the modules to wrap, as PEFT takes them.
        slots: K.
        r_max: R.

    Raises:
        PolicyError: where a name matches nothing, or something that is not a linear module.
    """
    bases = {name: module for name, module in model.named_modules() if name.rsplit(".", 1)[-1] in target_modules}
    missing = set(target_modules) - {name.rsplit(".", 1)[-1] for name in bases}
    if missing:
        raise PolicyError(f"target_modules={', '.join(sorted(missing))} match no module of {type(model).__name__}")
    for name, base in bases.items():
        if not isinstance(base, nn.Linear):  # bitsandbytes' are subclasses
            raise PolicyError(f"{name} is a {type(base).__name__}; packed adapters wrap linear modules only")
    first = next(iter(bases.values()))
    shapes = [(base.in_features, base.out_features) for base in bases.values()]
    # Float32 as PEFT keeps adapters of a base in half precision; float64 for a base in float64.
    dtype = torch.float64 if first.weight.dtype == torch.float64 else torch.float32
    device = first.weight.device
    weights = torch.zeros(slots, sum((d_in + d_out) * r_max for d_in, d_out in shapes), dtype=dtype, device=device)
    scaling, selection = torch.ones(slots, dtype=dtype, device=device), Selection()
    packed, offset = Pack(model, {}, weights, selection), 0
    # Before any module is replaced: the adapters themselves would be among them.
    packed._trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in packed._trainable:
        parameter.requires_grad_(False)
    for (name, base), (d_in, d_out) in zip(bases.items(), shapes, strict=True):
        a, b, offset = offset, offset + r_max * d_in, offset + r_max * (d_in + d_out)
        factors = weights[:, a:b].view(slots, r_max, d_in), weights[:, b:offset].view(slots, d_out, r_max)
        packed.modules[name] = PackedLoraLinear(base, factors, scaling, selection, len(packed.modules))
        model.set_submodule(name, packed.modules[name])
    return packed
