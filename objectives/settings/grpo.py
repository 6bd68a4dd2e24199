"""What every learner's `[learner]` section has: GRPO, its optimizer, and how completions are sampled."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from objectives.settings.section import Section

SETTLED: dict[str, tuple[str, ...]] = {
    "grpo": (),
    "rloo": ("loss_type", "importance_sampling_level", "scale_rewards", "delta", "beta"),
    "reinforce_plus_plus": ("scale_rewards", "beta"),
}
"""Keys that an algorithm leaves no choice of. Those beside GRPO have their KL in rewards, which is not done here."""


class GrpoSettings(Section):
    """GRPO (Shao et al., 2024: DeepSeekMath) and its optimizer."""

    algorithm: Literal["grpo", "rloo", "reinforce_plus_plus"] = "grpo"
    """What a completion's reward is compared with. `grpo`: its group's mean. `rloo` (Ahmadian et al., 2024,
    arXiv:2402.14740): the mean of the group's others; ratios and losses are of whole completions. `reinforce_plus_plus`
    (Hu et al., 2025, arXiv:2501.03262): the batch's mean, divided by the batch's standard deviation. The last two are
    of `packed` alone."""

    loss_type: Literal["grpo", "dapo", "dr_grpo", "bnpo", "cispo"] = "dapo"
    """How token losses are averaged, as TRL names them. `bnpo` averages within a micro-batch, whose members TRL draws:
    `packed` takes it without `micro_batch_size` only, where it is `dapo`. `cispo` (MiniMax, 2025, arXiv:2506.13585)
    averages as `dapo`, and bounds the probability ratio as a weight, by `epsilon_high`, instead of clipping."""

    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether each token has a probability ratio, or each completion one: GSPO (Zheng et al., 2025, arXiv:2507.18071)
    is `sequence` with `loss_type = "grpo"`."""

    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of a bonus for the mean entropy of tokens, by TRL of those of a micro-batch, by `packed` of a step's."""

    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL penalty towards the base policy."""

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

    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by: the standard deviation of the group, of the batch, or nothing."""

    epsilon: float = Field(default=0.2, gt=0)
    """Clipping range of the probability ratio."""

    epsilon_high: float | None = Field(default=None, gt=0)
    """Clipping range of the probability ratio above 1; DAPO's authors take 0.28. Default: `epsilon`. With `cispo` the
    bound of the ratio itself, as 5.0, and required."""

    delta: float | None = Field(default=None, gt=0)
    """The most that the probability ratio may come to where it is not clipped (INTELLECT-2's two-sided clipping); more
    than 1 + `epsilon_high`. Default: no bound."""

    mask_truncated_completions: bool = False
    """Leave completions that were cut at the longest length out of the loss. Their rewards still count in their
    group's mean."""

    num_iterations: int = Field(default=1, ge=1)
    """Steps that are taken on each rollout batch: a trial samples `budget.steps / num_iterations` batches."""

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
    def _check_algorithm(self) -> GrpoSettings:
        for key in SETTLED[self.algorithm]:
            value, default = getattr(self, key), type(self).model_fields[key].default
            if value != default:
                raise ValueError(
                    f"{key}={value!r} with algorithm={self.algorithm!r}, which leaves no choice of it; "
                    f"allowed: {default!r}"
                )
        return self

    @model_validator(mode="after")
    def _check_clipping(self) -> GrpoSettings:
        if self.loss_type == "cispo":
            if self.epsilon_high is None:
                raise ValueError("loss_type='cispo' with epsilon_high=None; allowed: a bound of the ratio, as 5.0")
            if self.delta is not None:
                raise ValueError(f"delta={self.delta:g} does nothing with loss_type='cispo'; allowed: no delta")
            return self
        above = 1 + self.clip_above
        if self.delta is not None and self.delta <= above:
            raise ValueError(
                f"delta={self.delta:g} bounds the ratio where it is not clipped; allowed: more than 1 + epsilon_high, "
                f"{above:g}"
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> GrpoSettings:
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
    def clip_above(self) -> float:
        """How far the probability ratio may exceed 1; with `cispo`, what it may come to."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

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
    def loss(self) -> str:
        """The objective, in words."""
        kinds = {
            "grpo": f"{self.loss_type} loss",
            "rloo": "RLOO",
            "reinforce_plus_plus": f"REINFORCE++, {self.loss_type} loss",
        }
        level = " of a ratio a completion" if self.importance_sampling_level == "sequence" else ""
        bonus = f", entropy bonus {self.entropy_coef:g}" if self.entropy_coef else ""
        return kinds[self.algorithm] + level + bonus

    @property
    def clipping(self) -> str:
        """What is cut off, in words."""
        bound = "" if self.delta is None else f", delta {self.delta:g}"
        masked = ", cut completions left out" if self.mask_truncated_completions else ""
        if self.loss_type == "cispo":
            return f"ratios of at most {self.clip_above:g}{masked}"
        return f"ratios within {1 - self.epsilon:g} to {1 + self.clip_above:g}{bound}{masked}"

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
