"""What every learner's `[learner]` section has: its optimizer, and how completions are sampled."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from objectives.settings.section import Section

TrlOptimizer = Literal[
    "adamw_torch", "adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit"
]
Tracker = Literal["tensorboard", "wandb", "trackio", "mlflow"]


class TrainingSettings(Section):
    """The optimizer, its schedule, and the distribution that completions are drawn from."""

    temperature: float = Field(default=1.0, gt=0)
    """Sampling temperature of training rollouts and of the held-out score."""

    top_p: float = Field(default=1.0, gt=0, le=1)
    """Sample from the likeliest tokens that have this probability together; in training rollouts and the held-out
    score, as the four keys that follow. Greedy scores know `stop` alone."""

    top_k: int = Field(default=0, ge=-1)
    """Sample from so many of the likeliest tokens; 0 or -1 for all."""

    min_p: float = Field(default=0.0, ge=0, le=1)
    """Leave out tokens whose probability is below this share of the likeliest one's."""

    repetition_penalty: float = Field(default=1.0, gt=0)
    """Above 1, tokens that were there before, prompt included, become less likely."""

    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end a completion, as `["</answer>"]`. They stay part of it, and of what rewards see."""

    micro_batch_size: int | None = Field(default=None, ge=1)
    """Completions per forward and backward pass. Must divide the completions of a step; default: all of them."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradient norm above which gradients are scaled down."""

    optim: str = "adamw_torch"
    """The optimizer, as Transformers names it. Each learner says which it has."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay of adapters."""

    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's mean of gradients."""

    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of AdamW's mean of squared gradients."""

    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine", "cosine_with_min_lr"] = (
        "constant"
    )
    """How a trial's learning rate goes over its steps: it stays, or falls along a line or a cosine, to zero or to
    `min_lr_rate`. All but `constant` begin with the warm-up, where there is one."""

    min_lr_rate: float | None = Field(default=None, ge=0, le=1)
    """What `cosine_with_min_lr` falls to, as a share of the trial's learning rate."""

    warmup_steps: int | float = Field(default=0, ge=0)
    """Steps over which the learning rate rises from zero; below 1, a share of the trial's steps."""

    warmup_ratio: float = Field(default=0.0, ge=0, lt=1)
    """The warm-up as a share of the trial's steps, rounded up; instead of `warmup_steps`."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, stop: Any) -> Any:
        return (stop,) if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _check_schedule(self) -> TrainingSettings:
        name = self.lr_scheduler_type
        if (name == "cosine_with_min_lr") != (self.min_lr_rate is not None):
            raise ValueError(
                f"lr_scheduler_type={name!r} with min_lr_rate={self.min_lr_rate}; allowed: both "
                "'cosine_with_min_lr' and a min_lr_rate, as 0.1, or neither"
            )
        if self.warmup_steps and self.warmup_ratio:
            raise ValueError(
                f"warmup_steps={self.warmup_steps:g} and warmup_ratio={self.warmup_ratio:g} say one thing in two ways; "
                "allowed: one of them"
            )
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            raise ValueError(f"warmup_steps={self.warmup_steps:g}; allowed: a whole number, or a share below 1")
        if self.warmup and name == "constant":
            raise ValueError(
                f"a warm-up of {self.warmup:g} does nothing with lr_scheduler_type='constant'; allowed: "
                "'constant_with_warmup', 'linear', 'cosine', 'cosine_with_min_lr'"
            )
        return self

    @property
    def warmup(self) -> int | float:
        """The warm-up as Transformers 5 takes it: steps, or below 1 a share of them."""
        return self.warmup_ratio or self.warmup_steps

    def count_warmup_steps(self, steps: int) -> int:
        """The warm-up of a trial of this many steps, rounded as Transformers 5.17 does."""
        return int(self.warmup) if self.warmup >= 1 else math.ceil(steps * self.warmup)

    @property
    def schedule(self) -> str:
        """How the learning rate goes, in words."""
        floor = "" if self.min_lr_rate is None else f" down to {self.min_lr_rate:g} of it"
        steps = f"{self.warmup:g} steps" if self.warmup >= 1 else f"{self.warmup:.3g} of the steps"
        return self.lr_scheduler_type + floor + (f", warm-up over {steps}" if self.warmup else "")

    @property
    def optimizer(self) -> str:
        """The optimizer with its betas and weight decay, in words."""
        betas = f"betas {self.adam_beta1:g} and {self.adam_beta2:g}"
        return f"{self.optim}, {betas}, weight decay {self.weight_decay:g}"

    @property
    def sampling(self) -> str:
        """How completions are sampled, in words: what differs from the plain distribution."""
        words = [f"T={self.temperature:g}"]
        words += [f"top_p={self.top_p:g}"] if self.top_p < 1 else []
        words += [f"top_k={self.top_k}"] if self.top_k > 0 else []
        words += [f"min_p={self.min_p:g}"] if self.min_p else []
        words += [f"repetition_penalty={self.repetition_penalty:g}"] if self.repetition_penalty != 1 else []
        words += [f"stop={list(self.stop)}"] if self.stop else []
        return ", ".join(words)
