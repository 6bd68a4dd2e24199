"""What a policy is: one frozen base model that becomes a LoRA model for a trial, and is itself again after it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, Protocol

from objectives.errors import PolicyError
from objectives.lora import LoraSpec


class Policy(Protocol):
    """Holds the base model for as long as its worker lives."""

    @property
    def name(self) -> str:
        """The name that reports print."""

    @property
    def tokenizer(self) -> Any:
        """The base model's tokenizer."""

    @property
    def base(self) -> Any:
        """The base model, while no adapter is on it."""

    @property
    def engine(self) -> Any | None:
        """The vLLM `LLM` that shares this policy's weights, where it has one."""

    def build(self, lora: LoraSpec | None, *, seed: int) -> Any:
        """Wraps the base with a new adapter, initialised from the seed; with None, all of it is to be trained.

        Returns:
            A PeftModelForCausalLM that is ready to be trained: only its adapter has gradients.

        Raises:
            PolicyError: where the wrapped model's rank or scaling is not the one asked for.
        """
        ...

    def served(self) -> Any:
        """The adapter as an engine is to have it: an object with PEFT's `save_pretrained`."""

    def release(self) -> None:
        """Takes the adapter off again, and frees what its trial has left. The base is then what it was, to the bit."""
        ...


def needed(lora: LoraSpec | None) -> LoraSpec:
    """The adapter that a trial names.

    Raises:
        PolicyError: where it names none.
    """
    if lora is None:
        raise PolicyError("a trial without an adapter trains the whole model, which takes model.policy = 'whole'")
    return lora


def unwrap(base: Any) -> None:
    """Takes off a base what a wrapping that failed half-way has put on it: the next would find it wrapped already."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(base.named_modules()):
        if isinstance(module, BaseTunerLayer):
            base.set_submodule(name, module.get_base_layer())


def free_memory() -> None:
    """Gives back the memory of what nobody holds any more. Trainers and wrapped models are held by cycles."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def check_targets(base: Any, target_modules: Sequence[str]) -> None:
    """Checks that a model has every module that is to get an adapter; PEFT wraps those that it finds, without a word.

    Raises:
        PolicyError: naming those that it lacks, and the linear modules that it has.
    """
    names = {name.rpartition(".")[2]: type(module).__name__ for name, module in base.named_modules()}
    if missing := [name for name in target_modules if name not in names]:
        linear = sorted(name for name, kind in names.items() if "Linear" in kind)
        raise PolicyError(
            f"target module {', '.join(map(repr, missing))} is not in {type(base).__name__}; "
            f"allowed: {', '.join(linear)}"
        )


def check_adapter(model: Any, lora: LoraSpec) -> None:
    """Reads rank and scaling back from every wrapped module.

    A second wrapping of a wrapped model keeps the first rank without a word (Unsloth 2026.10.9, CPU).

    Raises:
        PolicyError: where they are not the ones asked for, or where nothing is wrapped.
    """
    wrapped = [module for module in model.modules() if "default" in getattr(module, "lora_A", ())]
    if not wrapped:
        raise PolicyError(f"no module was wrapped; target_modules={', '.join(lora.target_modules)}")
    for module in wrapped:
        r, scaling = module.r["default"], module.scaling["default"]
        if r != lora.r or abs(scaling - lora.scaling) > 1e-9:
            raise PolicyError(
                f"the wrapped model has r={r}, scaling={scaling:g}; the trial asked for r={lora.r}, "
                f"alpha={lora.alpha}, so scaling={lora.scaling:g}"
            )


def peft_factors(model: Any) -> dict[str, tuple[Any, Any]]:
    """A and B of each module that PEFT has wrapped, by its name: shapes [r, d_in] and [d_out, r]."""
    return {
        name: (module.lora_A["default"].weight, module.lora_B["default"].weight)
        for name, module in model.named_modules()
        if "default" in getattr(module, "lora_A", ())
    }
