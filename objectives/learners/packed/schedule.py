"""How a trial's learning rate goes over its steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import get_scheduler


def schedule(name: str, *, steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied by at a step, the first of which is 0: Transformers' own, without warm-up.

    Args:
        name: As Transformers calls it.
        steps: How many there will be.
    """
    unused = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = get_scheduler(name, unused, num_warmup_steps=0, num_training_steps=steps)
    factor: Callable[[int], float] = scheduler.lr_lambdas[0]
    return factor
