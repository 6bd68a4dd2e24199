"""What a LoRA adapter is: its rank, its scaling, and the modules it wraps; and the one to start from for RL."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")
TARGET_MODULES = (*ATTENTION, *FEED_FORWARD)
"""The linear modules of a dense decoder layer: attention and feed-forward."""
TARGET_SETS = {"attention": ATTENTION, "mlp": FEED_FORWARD, "all": TARGET_MODULES}
"""Sets of target modules that have a name."""


def modules_of(target_set: str) -> tuple[str, ...]:
    """The modules that a target set stands for, each once.

    Args:
        target_set: A named set, a module's name, or several of these joined by `+`.

    Raises:
        ValueError: where a part is no name at all. Whether a model has such a module is not looked at.
    """
    parts = target_set.split("+")
    if not all(re.fullmatch(r"[A-Za-z_]\w*", part) for part in parts):
        raise ValueError(f"{target_set!r} names no modules; allowed: {', '.join(TARGET_SETS)}, or names of modules")
    return tuple(dict.fromkeys(name for part in parts for name in TARGET_SETS.get(part, (part,))))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSpec:
    """One adapter's shape and scaling.

    Raises:
        ValueError: where `r` or `alpha` is below 1.
    """

    r: int
    alpha: int
    target_modules: tuple[str, ...] = TARGET_MODULES
    dropout: float = 0.0
    bias: str = "none"
    use_rslora: bool = False

    def __post_init__(self) -> None:
        for name, value in (("r", self.r), ("alpha", self.alpha)):
            if value < 1:
                raise ValueError(f"{name}={value}; allowed: 1 or more")

    @property
    def scaling(self) -> float:
        """What the adapter's output is multiplied by: alpha / r, or alpha / sqrt(r) (rsLoRA, Kalajdzievski 2023)."""
        return self.alpha / (math.sqrt(self.r) if self.use_rslora else self.r)


def configure_lora_for_rl(max_lora_rank: int, task_complexity: str = "high") -> LoraSpec:
    """The adapter to start from under an engine's ceiling, where no sweep has said better.

    A task of high complexity gets the whole ceiling, any other half of it and never below 1. Typical ranks are 32 to 64
    for GRPO and 16 to 32 for DPO. Alpha equals r, so that the adapter's output is neither scaled up nor down: the lower
    of the two settings that Unsloth's guide to LoRA hyperparameters names, r and 2r.

    `objectives.policies.rl.wrap_for_rl` wraps a model with it.

    Args:
        max_lora_rank: The rank that the engine sets memory aside for.
        task_complexity: "high", or anything else for a task that is not.

    Raises:
        ValueError: where `max_lora_rank` is below 1.
    """
    if max_lora_rank < 1:
        raise ValueError(f"max_lora_rank={max_lora_rank}; allowed: 1 or more")
    r = max_lora_rank if task_complexity == "high" else max(1, max_lora_rank // 2)
    return LoraSpec(r=r, alpha=r)
