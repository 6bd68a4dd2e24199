"""What a LoRA adapter is: its rank, its scaling, and the modules it wraps."""

from __future__ import annotations

import math
from dataclasses import dataclass

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear modules of a dense decoder layer: attention and feed-forward."""


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
