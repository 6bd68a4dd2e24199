"""A LoRA policy through plain Transformers and PEFT: the reference that Unsloth's is compared with."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from objectives.engines.four_bits import four_bits
from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.protocol import check_adapter, free_memory, needed, unwrap
from objectives.policies.residual import BaseWeights, ServedResidual
from objectives.settings.sections import ModelSettings


def peft_config(lora: LoraSpec) -> LoraConfig:
    """An adapter as PEFT describes it."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        target_modules=list(lora.target_modules),
        lora_dropout=lora.dropout,
        bias=lora.bias,
        use_rslora=lora.use_rslora,
    )


def load_base(settings: ModelSettings) -> tuple[Any, Any]:
    """A model and its tokenizer, through Transformers.

    Raises:
        PolicyError: where it cannot be loaded.
    """
    quantization = four_bits(settings)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        base: Any = AutoModelForCausalLM.from_pretrained(
            settings.path,
            dtype=getattr(torch, settings.number_format),
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(settings.path, padding_side="left")
    except (ValueError, OSError) as error:
        raise PolicyError(f"Transformers could not load {settings.name!r}: {error}") from error
    return base if quantization else base.to(device), tokenizer


class PeftPolicy:
    """Loads the base through `AutoModelForCausalLM` and wraps it with `peft.get_peft_model`."""

    name = "peft"
    engine = None

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._adapted: Any | None = None
        self._served: Any | None = None
        self._weights: BaseWeights | None = None
        self._base, self.tokenizer = load_base(settings)

    @property
    def base(self) -> Any:
        """The base model, while no adapter is on it."""
        return self._base

    def build(self, lora: LoraSpec | None, *, seed: int) -> Any:
        """See `Policy.build`."""
        lora = needed(lora)
        if self._adapted is not None:
            raise PolicyError("this policy already has an adapter; release it first")
        # PEFT draws the first weights of A from torch's global generator.
        torch.manual_seed(seed)
        if self._settings.gradient_checkpointing != "off":
            self._base.gradient_checkpointing_enable({"use_reentrant": False})
            self._base.enable_input_require_grads()
        config, residual = peft_config(lora), self._settings.changes_base
        if residual:
            config.init_lora_weights = self._settings.init_lora_weights
            self._weights = BaseWeights(self._base, lora.target_modules)
        try:
            self._adapted = get_peft_model(self._base, config)
        except Exception:
            unwrap(self._base)
            self._put_back()
            raise
        check_adapter(self._adapted, lora)
        self._served = ServedResidual(self._adapted, lora) if residual else self._adapted
        return self._adapted

    def served(self) -> Any:
        """See `Policy.served`."""
        return self._served

    def release(self) -> None:
        """See `Policy.release`."""
        if self._adapted is not None:
            self._base = self._adapted.unload()
            self._adapted = self._served = None
            self._put_back()
        free_memory()

    def _put_back(self) -> None:
        if self._weights is not None:
            self._weights.put_back(self._base)
            self._weights = None
