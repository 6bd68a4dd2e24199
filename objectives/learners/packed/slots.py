"""One slot of a pack as a LoRA adapter: how it starts, and how it leaves as an ordinary PEFT folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from objectives.engines.host_copy import host_copy
from objectives.errors import PolicyError
from objectives.learners.packed.linear import Pack
from objectives.lora import LoraSpec
from objectives.policies.peft import peft_config


def initial_adapter(
    packed: Pack, r: int, seed: int, target_modules: Sequence[str] | None = None
) -> dict[str, tuple[Tensor, Tensor]]:
    """The A and B that `torch.manual_seed(seed)` and `peft.get_peft_model` give each module, by its name.

    Only modules that get an adapter draw: what a trial starts from does not depend on what else the pack wraps.

    PEFT 0.21 makes two nn.Linear modules, which draw and discard weights of their own, then draws A from a Kaiming
    uniform distribution and sets B to zero. It rounds to the base's number format before it returns to float32.
    """
    # Of its own: the engine may be drawing from torch's at the same time.
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return nn.init.kaiming_uniform_(torch.empty(shape), a=math.sqrt(5), generator=generator)

    adapter = {}
    for name in adapted_modules(packed, target_modules):
        module = packed.modules[name]
        d_in, d_out = module.lora_A.shape[2], module.lora_B.shape[1]
        _, B, A = drawn(r, d_in), drawn(d_out, r), drawn(r, d_in)  # noqa: N806
        # The weight of a 4-bit module is packed bytes: PEFT goes by the format that it computes in.
        dtype = getattr(module.base, "compute_dtype", None) or module.base.weight.dtype
        if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
            A = A.to(dtype)  # noqa: N806
        adapter[name] = A, B.zero_()
    return adapter


def adapted_modules(packed: Pack, target_modules: Sequence[str] | None) -> tuple[str, ...]:
    """Names of a pack's modules that get an adapter, in the order of the model; all of them where it is None."""
    return tuple(name for name in packed.modules if target_modules is None or name.rsplit(".", 1)[-1] in target_modules)


class SlotAdapter:
    """The adapter that a trial trains in its slot. It saves itself as a PEFT model does.

    A pack wraps every module that any trial adapts. In those that this one does not, its slot holds zeros: they add
    nothing to the output, and gradients of A and B, each a product with the other, are zero as well.
    """

    def __init__(self, packed: Pack, k: int, lora: LoraSpec, *, seed: int, base_name: str = "") -> None:
        """Puts a new adapter into slot k.

        Args:
            packed: The pack.
            k: The slot.
            lora: The adapter's shape and scaling.
            seed: What it is initialised from.
            base_name: The base model, for whoever reads the saved folder.

        Raises:
            PolicyError: where a pack cannot hold such an adapter.
        """
        check_packable(lora, packed)
        self.packed, self.k, self.r = packed, k, lora.r
        self._modules = adapted_modules(packed, lora.target_modules)
        packed.clear(k)
        for name, (A, B) in initial_adapter(packed, lora.r, seed, lora.target_modules).items():  # noqa: N806
            packed.modules[name].set_slot(k, A, B, lora.scaling)
        self._config = peft_config(lora)
        self._config.base_model_name_or_path = base_name or None
        # As PEFT's own `save_pretrained` writes it.
        self._config.inference_mode = True

    @property
    def parameters(self) -> int:
        """How many numbers the adapter holds, padding left out."""
        return sum(A.numel() + B.numel() for A, B in self.factors().values())

    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B of each module that it adapts, by name, padding left out: views of shapes [r, d_in], [d_out, r]."""
        return {name: self.packed.modules[name].slot(self.k, self.r) for name in self._modules}

    def parts_of(self, row: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The same of a row that is laid out as the slot's weights are, such as its moments."""
        found = self.packed.factors(row, self.r)
        return {name: found[name] for name in self._modules}

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's tensors, on the CPU, under the names that PEFT saves them by."""
        state = {}
        for name, (A, B) in self.factors().items():  # noqa: N806
            state[f"base_model.model.{name}.lora_A.weight"] = A
            state[f"base_model.model.{name}.lora_B.weight"] = B
        return host_copy(state)

    def save_pretrained(self, save_directory: str, **_: Any) -> None:
        """Writes the folder that `PeftModel.from_pretrained` and vLLM read; takes what PEFT's method takes."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._config.save_pretrained(save_directory)
        save_file(self.state_dict(), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def check_packable(lora: LoraSpec, packed: Pack) -> None:
    """Refuses an adapter that slots cannot hold.

    Raises:
        PolicyError: where it has a bias, modules that the pack does not wrap, or too high a rank.
    """
    if lora.bias != "none":
        raise PolicyError(f"packed adapters have no bias; got {lora.bias!r}")
    wrapped = {name.rsplit(".", 1)[-1] for name in packed.modules}
    if not wrapped.issuperset(lora.target_modules):
        raise PolicyError(f"the pack wraps {', '.join(sorted(wrapped))}; got {', '.join(sorted(lora.target_modules))}")
    ceiling = next(iter(packed.modules.values())).lora_A.shape[1]
    if lora.r > ceiling:
        raise PolicyError(f"r={lora.r} exceeds the pack's ceiling of {ceiling}")
