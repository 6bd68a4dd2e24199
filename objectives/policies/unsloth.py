"""A LoRA policy through Unsloth: on a GPU with its own vLLM engine inside, on a CPU the trainer's side alone."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
# The engine that Unsloth starts: by the time that `objectives.engines.vllm` says so, it runs.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# In standby the engine takes another share of memory than the study's, and sleeps between rollouts of TRL's. Ours are
# not TRL's, so that it would never sleep.
os.environ["UNSLOTH_VLLM_STANDBY"] = "0"
# Nor does it take adapters from our rollouts into the engine's base. With "attention" it would start an engine that
# leaves out, without a word, what an adapter does to attention (Unsloth 2026.10.9, vLLM 0.32).
os.environ["UNSLOTH_VLLM_MERGED_ROLLOUT"] = "0"
# Each rank and alpha that a worker trains adds graphs to the same compiled block; past its limit, 32 for a Llama in
# Unsloth 2026.10, a block runs uncompiled. 256 is torch's own limit.
os.environ.setdefault("UNSLOTH_BLOCK_COMPILE_RECOMPILE_LIMIT", "256")

from objectives.engines.cpu_kernels import processor_kernels

with processor_kernels():
    import unsloth  # noqa: F401
import torch
from unsloth import FastLanguageModel

from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.protocol import check_adapter, free_memory, needed, unwrap
from objectives.settings.sections import ModelSettings

CHECKPOINTING: dict[str, str | bool] = {"unsloth": "unsloth", "standard": True, "off": False}


def engine_arguments(settings: ModelSettings, max_num_seqs: int | None) -> dict[str, int]:
    """What `load_vllm` is told of a batch's size; Unsloth goes by free memory where it is not."""
    arguments = {"max_num_batched_tokens": settings.batched_tokens}
    if max_num_seqs is not None:
        # Unsloth 2026.10 takes 256, its default, for not stated.
        arguments["max_num_seqs"] = 257 if max_num_seqs == 256 else max_num_seqs
    return arguments


class UnslothPolicy:
    """Loads the base through `FastLanguageModel`; `engine` is Unsloth's own vLLM engine where it has one."""

    name = "unsloth"

    def __init__(
        self, settings: ModelSettings, *, max_lora_rank: int, fast_inference: bool, max_num_seqs: int | None = None
    ) -> None:
        """Loads the base model.

        Args:
            settings: Which model.
            max_lora_rank: The ceiling that a fast-inference engine sets memory aside for.
            fast_inference: Start Unsloth's vLLM engine on the same weights. Needs a GPU.
            max_num_seqs: Sequences that this engine may run at once; None for what Unsloth makes of free memory.

        Raises:
            PolicyError: where Unsloth cannot load the model.
        """
        if fast_inference and settings.number_format == "float32":
            raise PolicyError(
                "model.dtype='float32' is not served by Unsloth's engine on a GPU; allowed: bfloat16, float16, or "
                "model.policy = 'peft', which has an engine of its own"
            )
        engine = engine_arguments(settings, max_num_seqs) if fast_inference else {}
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
                **engine,
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

    def build(self, lora: LoraSpec | None, *, seed: int) -> Any:
        """See `Policy.build`."""
        lora = needed(lora)
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

    def served(self) -> Any:
        """See `Policy.served`."""
        return self._adapted

    def release(self) -> None:
        """See `Policy.release`."""
        if self._adapted is not None:
            self._base = self._adapted.unload()
            self._adapted = None
        free_memory()
