"""What the `[learner]` section of every learner that trains by GRPO has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from objectives.settings.training import TrainingSettings

Correction = Literal["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"]


class GrpoSettings(TrainingSettings):
    """GRPO (Shao et al., 2024: DeepSeekMath)."""

    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo"] = "dapo"
    """How token losses are averaged, as TRL names them. `bnpo` averages within a micro-batch, whose members TRL draws:
    `packed` takes it without `micro_batch_size` only, where it is `dapo`."""

    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL penalty towards the base policy."""

    importance_sampling_correction: Correction = "none"
    """Correction for the engine and the trainer disagreeing on log-probabilities. Each learner says which it has."""

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, of the batch, or nothing."""

    epsilon: float = Field(default=0.2, gt=0)
    """Clipping range of the probability ratio."""

    epsilon_high: float | None = Field(default=None, gt=0)
    """Clipping range of the probability ratio above 1; DAPO's authors take 0.28. Default: `epsilon`."""

    delta: float | None = Field(default=None, gt=0)
    """The most that the probability ratio may come to where it is not clipped (INTELLECT-2's two-sided clipping); more
    than 1 + `epsilon_high`. Default: no bound."""

    mask_truncated_completions: bool = False
    """Leave completions that were cut at the longest length out of the loss. Their rewards still count in their
    group's mean."""

    num_iterations: int = Field(default=1, ge=1)
    """Steps that are taken on each rollout batch: a trial samples `budget.steps / num_iterations` batches."""

    @model_validator(mode="after")
    def _check_clipping(self) -> GrpoSettings:
        above = 1 + self.clip_above
        if self.delta is not None and self.delta <= above:
            raise ValueError(
                f"delta={self.delta:g} bounds the ratio where it is not clipped; allowed: more than 1 + epsilon_high, "
                f"{above:g}"
            )
        return self

    @property
    def clip_above(self) -> float:
        """How far the probability ratio may exceed 1."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def objective(self) -> str:
        """What is optimised, in words."""
        return f"GRPO, {self.loss_type} loss, beta {self.beta:g}, {self.clipping}"

    @property
    def clipping(self) -> str:
        """What is cut off, in words."""
        bound = "" if self.delta is None else f", delta {self.delta:g}"
        masked = ", cut completions left out" if self.mask_truncated_completions else ""
        return f"ratios within {1 - self.epsilon:g} to {1 + self.clip_above:g}{bound}{masked}"
