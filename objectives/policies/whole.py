"""A policy without an adapter: every weight of the model is trained, as what adapters are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.peft import load_base
from objectives.policies.protocol import free_memory
from objectives.settings.sections import ModelSettings


class WholePolicy:
    """Loads the base as `PeftPolicy` does, and trains it itself."""

    name = "whole"
    engine = None

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._base, self.tokenizer = load_base(settings)
        self._weights: dict[str, torch.Tensor] | None = None

    @property
    def base(self) -> Any:
        """The model: the base, and while a trial trains, its policy."""
        return self._base

    def build(self, lora: LoraSpec | None, *, seed: int) -> Any:
        """See `Policy.build`: all of it is ready to be trained, and the seed decides nothing."""
        if lora is not None:
            raise PolicyError(f"a whole model is trained without an adapter; got r={lora.r}")
        self._weights = {name: weight.detach().clone() for name, weight in self._base.named_parameters()}
        if self._settings.gradient_checkpointing != "off":
            self._base.gradient_checkpointing_enable({"use_reentrant": False})
        return self._base.requires_grad_(True)

    def served(self) -> Any:
        """See `Policy.served`."""
        return _Live()

    @torch.no_grad()
    def release(self) -> None:
        """See `Policy.release`."""
        if self._weights is not None:
            for name, weight in self._base.named_parameters():
                weight.copy_(self._weights[name])
                weight.grad = None
            self._base.requires_grad_(False)
            self._weights = None
        free_memory()


class _Live:
    """Nothing is written for the engine: it samples from the model itself."""

    def factors(self) -> dict[str, Any]:
        """There is no adapter."""
        return {}

    def save_pretrained(self, save_directory: str, **_: Any) -> None:
        Path(save_directory).mkdir(parents=True, exist_ok=True)
