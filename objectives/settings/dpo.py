"""The `[learner]` section of the learner that trains on preference pairs."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from objectives.settings.training import Tracker, TrainingSettings, TrlOptimizer


class DpoSettings(TrainingSettings):
    """Direct preference optimization (Rafailov et al., 2023, arXiv:2305.18290) by TRL's DPOTrainer, a trial at a time.

    A step trains on `budget.prompts_per_step` pairs; `budget.group_size` is 2.
    """

    name: Literal["dpo"]
    """The learner: `dpo`. Needs `task.name = "preferences"`."""

    loss_type: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    """The loss, as TRL names it."""

    beta: float = Field(default=0.1, gt=0)
    """How strongly the policy is held to the base policy: the larger, the closer it stays."""

    optim: TrlOptimizer = "adamw_torch"
    """The optimizer, as Transformers names it. 8-bit and paged ones are bitsandbytes'."""

    report_to: tuple[Tracker, ...] = ()
    """Trackers that TRL reports each step to, one run per trial, named study/trial/seed. You install their packages
    and set their environment variables."""

    # What asks any learner for these finds what they are for pairs.
    num_iterations: ClassVar[int] = 1
    importance_sampling_correction: ClassVar[str] = "none"

    @property
    def slots(self) -> int:
        """Trials that run at once."""
        return 1

    @property
    def objective(self) -> str:
        """What is optimised, in words."""
        return f"DPO, {self.loss_type} loss, beta {self.beta:g}"
