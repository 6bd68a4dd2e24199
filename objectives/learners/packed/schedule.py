"""How a trial's learning rate goes over its steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import get_scheduler

from objectives.settings.learner import LearnerSettings


def schedule(
    name: str, *, steps: int, warmup_steps: int = 0, min_lr_rate: float | None = None
) -> Callable[[int], float]:
    """What the learning rate is multiplied by at a step, the first of which is 0: Transformers' own.

    Args:
        name: As Transformers calls it.
        steps: How many there will be.
        warmup_steps: How many of them the rate rises over, from zero.
        min_lr_rate: What a cosine with a floor falls to, as a share.
    """
    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = get_scheduler(
        name,
        unused,
        num_warmup_steps=warmup_steps,
        num_training_steps=steps,
        scheduler_specific_kwargs=None if min_lr_rate is None else {"min_lr_rate": min_lr_rate},
    )
    factor: Callable[[int], float] = scheduler.lr_lambdas[0]
    return factor


def learner_schedule(learner: LearnerSettings, *, steps: int) -> Callable[[int], float]:
    """The schedule that a study names, for a trial of this many steps."""
    return schedule(
        learner.lr_scheduler_type,
        steps=steps,
        warmup_steps=learner.count_warmup_steps(steps),
        min_lr_rate=learner.min_lr_rate,
    )
