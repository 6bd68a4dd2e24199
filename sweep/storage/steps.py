"""Which steps' rewards Optuna is told of, where no pruner goes by them: all at first, then ever fewer.

It is Optuna and its dashboard that read every one of every trial, again and again. What each step measured is in the
trial's attribute `curve` as well. 80 steps come to 21 intermediate values, 1,000 to 35.
"""

from __future__ import annotations

MOST_STEPS = 1 << 20


def is_reported(step: int) -> bool:
    """Whether a step is one of these: every one below 8, then four in each doubling.

    Args:
        step: Counted from 1.
    """
    return step % (1 << max(0, step.bit_length() - 3)) == 0


def reported_steps() -> list[int]:
    """All of them, as far as anybody trains."""
    steps, step = [], 1
    while step <= MOST_STEPS:
        steps.append(step)
        step += 1 << max(0, step.bit_length() - 3)
    return steps
