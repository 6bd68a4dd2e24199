"""A LoRA policy through Unsloth: on a GPU with its own vLLM engine inside, on a CPU the trainer's side alone."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")

from objectives.engines.cpu_kernels import processor_kernels

with processor_kernels():
    import unsloth  # noqa: F401
import torch
from unsloth import FastLanguageModel

from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.protocol import check_adapter, free_memory, unwrap
from objectives.settings.sections import ModelSettings

CHECKPOINTING: dict[str, str | bool] = {"unsloth": "unsloth", "standard": True, "off": False}


class UnslothPolicy:
    """Loads the base through `FastLanguageModel`; `engine` is Unsloth's own vLLM engine where it has one."""

    name = "unsloth"

    def __init__(self, settings: ModelSettings, *, max_lora_rank: int, fast_inference: bool) -> None:
        """Loads the base model.

        Args:
            settings: Which model.
            max_lora_rank: The ceiling that a fast-inference engine sets memory aside for.
            fast_inference: Start Unsloth's vLLM engine on the same weights. Needs a GPU.

        Raises:
            PolicyError: where Unsloth cannot load the model.
        """
        self._settings = settings
        self._adapted: Any | None = None
        try:
            self._base, self.tokenizer = FastLanguageModel.from_pretrained(
                model_name=settings.path,
                max_seq_length=settings.max_seq_length,
                dtype=getattr(torch, settings.number_format),
                load_in_4bit=settings.load_in_4bit,
                fast_inference=fast_inference,
                max_lora_rank=max_lora_rank,
                gpu_memory_utilization=settings.gpu_memory_utilization,
            )
        except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
            raise PolicyError(f"Unsloth could not load {settings.name!r}: {error}") from error

    @property
    def engine(self) -> Any | None:
        """Unsloth's vLLM engine, which shares the base weights; None on a CPU."""
        return getattr(self._base, "vllm_engine", None)

    @property
    def base(self) -> Any:
        """The base model, while no adapter is on it."""
        return self._base

    def build(self, lora: LoraSpec, *, seed: int) -> Any:
        """See `Policy.build`."""
        if self._adapted is not None:
            raise PolicyError("this policy already has an adapter; release it first")
        torch.manual_seed(seed)
        try:
            self._adapted = model = FastLanguageModel.get_peft_model(
                self._base,
                r=lora.r,
                target_modules=list(lora.target_modules),
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                bias=lora.bias,
                use_gradient_checkpointing=CHECKPOINTING[self._settings.gradient_checkpointing],
                random_state=seed,
                use_rslora=lora.use_rslora,
            )
        except Exception:
            unwrap(self._base)
            raise
        check_adapter(model, lora)
        return model

    def release(self) -> None:
        """See `Policy.release`."""
        if self._adapted is not None:
            self._base = self._adapted.unload()
            self._adapted = None
        free_memory()
