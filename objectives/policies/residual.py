"""PiSSA and OLoRA: initialisations that take out of the base what the adapter begins with.

PEFT (0.21) writes W - s B0 A0 into the base, so that nothing changes at first. Engines serve adapters of the base as it
was, of which the update is s (B A - B0 A0): an adapter of twice the rank. Sources: PiSSA (Meng, Wang and Zhang, 2024,
arXiv 2404.02948), OLoRA (Büyükakyüz, 2024, arXiv 2406.01775).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from objectives.engines.host_copy import host_copy
from objectives.lora import LoraSpec
from objectives.policies.protocol import peft_factors


class BaseWeights:
    """Copies, on the host, of the weights that an initialisation changes: OLoRA does so in place."""

    def __init__(self, base: Any, target_modules: Sequence[str]) -> None:
        """Copies them.

        Args:
            base: The base model, while no adapter is on it.
            target_modules: The last parts of the names of the linear modules that get one.
        """
        targets = set(target_modules)
        self._copies = {
            name: module.weight.detach().to("cpu", copy=True)
            for name, module in base.named_modules()
            if name.rpartition(".")[2] in targets
        }

    def put_back(self, base: Any) -> None:
        """Gives a base without adapters its own weights again, to the bit."""
        for name, weight in self._copies.items():
            parameter = base.get_submodule(name).weight
            parameter.data = weight.to(parameter.device)


class ServedResidual:
    """A PEFT model whose initialisation changed its base, as an adapter of the base that it was: of rank 2r."""

    def __init__(self, model: Any, lora: LoraSpec) -> None:
        """Remembers what the adapter begins with.

        Args:
            model: A PeftModel that nothing has trained yet.
            lora: Its adapter.
        """
        self._model = model
        self._config = copy.deepcopy(model.peft_config["default"])
        self._config.r, self._config.lora_alpha = 2 * lora.r, 2 * lora.alpha
        self._config.init_lora_weights, self._config.use_rslora = True, False
        self._config.inference_mode = True
        # What alpha / r does not say of the scaling, as under rsLoRA, B says.
        self._scale = lora.scaling * lora.r / lora.alpha
        self._initial = {name: (A.detach().clone(), B.detach().clone()) for name, (A, B) in peft_factors(model).items()}

    @torch.no_grad()
    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A' = [A; A0] and B' = [B, -B0] of each module, by its name: shapes [2r, d_in] and [d_out, 2r]."""
        return {
            name: (torch.cat((A, self._initial[name][0])), self._scale * torch.cat((B, -self._initial[name][1]), dim=1))
            for name, (A, B) in peft_factors(self._model).items()
        }

    def save_pretrained(self, save_directory: str, **_: Any) -> None:
        """Writes the folder that `PeftModel.from_pretrained` and vLLM read; takes what PEFT's method takes."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._config.save_pretrained(save_directory)
        state = {}
        for name, (A, B) in self.factors().items():  # noqa: N806
            state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"] = A, B
        save_file(host_copy(state), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def factors_of(served: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """A and B of each module of an adapter as it is served, by the module's name."""
    return served.factors() if hasattr(served, "factors") else peft_factors(served)
