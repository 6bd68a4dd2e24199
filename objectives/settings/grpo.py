"""What the `[learner]` section of every learner that trains by GRPO has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from objectives.settings.training import TrainingSettings

Correction = Literal["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"]

SETTLED: dict[str, tuple[str, ...]] = {
    "grpo": (),
    "rloo": ("loss_type", "importance_sampling_level", "scale_rewards", "delta", "beta"),
    "reinforce_plus_plus": ("scale_rewards", "beta"),
}
"""Keys that an algorithm leaves no choice of. Those beside GRPO have their KL in rewards, which is not done here."""


class GrpoSettings(TrainingSettings):
    """GRPO (Shao et al., 2024: DeepSeekMath)."""

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

    importance_sampling_correction: Correction = "none"
    """Correction for the engine and the trainer disagreeing on log-probabilities. Each learner says which it has."""

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

    @property
    def clip_above(self) -> float:
        """How far the probability ratio may exceed 1; with `cispo`, what it may come to."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def objective(self) -> str:
        """What is optimised, in words."""
        return f"{self.loss}, beta {self.beta:g}, {self.clipping}"

    @property
    def loss(self) -> str:
        """The algorithm and its loss, in words."""
        kinds = {
            "grpo": f"GRPO, {self.loss_type} loss",
            "rloo": "RLOO",
            "reinforce_plus_plus": f"REINFORCE++, {self.loss_type} loss",
        }
        level = " of a ratio a completion" if self.importance_sampling_level == "sequence" else ""
        bonus = f", entropy bonus {self.entropy_coef:g}" if self.entropy_coef else ""
        return f"{kinds[self.algorithm]}{level}{bonus}"

    @property
    def clipping(self) -> str:
        """What is cut off, in words."""
        bound = "" if self.delta is None else f", delta {self.delta:g}"
        masked = ", cut completions left out" if self.mask_truncated_completions else ""
        if self.loss_type == "cispo":
            return f"ratios of at most {self.clip_above:g}{masked}"
        return f"ratios within {1 - self.epsilon:g} to {1 + self.clip_above:g}{bound}{masked}"
