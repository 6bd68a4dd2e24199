"""A step's metrics, from what TRL's trainer logs."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

from objectives.trial.messages import StepMetrics


def step_metrics(
    step: int,
    logs: dict[str, Any],
    *,
    tokens: int,
    completion_length: float,
    seconds: float,
    unscored: int | None,
    beta: float,
) -> StepMetrics:
    """Reads a step's metrics from what TRL 1.13 logs, but for what it does not log: those that are given."""
    return StepMetrics(
        step=step,
        reward=_number(logs["reward"], default=math.nan),
        reward_std=_number(logs["reward_std"], default=math.nan),
        groups_without_signal=_number(logs["frac_reward_zero_std"], default=0.0),
        completion_length=completion_length,
        tokens=tokens,
        seconds=seconds,
        entropy=logs.get("entropy"),
        # Unsloth 2026.10 logs a zero where there is none.
        kl=logs.get("kl") if beta else None,
        unscored=unscored,
        clip_ratio=logs.get("clip_ratio/region_mean", logs.get("cispo_clip_ratio")),
        loss=logs.get("loss"),
        grad_norm=logs.get("grad_norm"),
        rewards=_by_function(logs, "mean"),
        reward_stds=_by_function(logs, "std"),
    )


def _by_function(logs: dict[str, Any], statistic: str) -> dict[str, float]:
    """A statistic of each reward function, by the function's name."""
    return {
        key.removeprefix("rewards/").removesuffix(f"/{statistic}"): value
        for key, value in logs.items()
        if key.startswith("rewards/") and key.endswith(f"/{statistic}") and value is not None
    }


def _number(value: Any, *, default: float) -> float:
    with suppress(TypeError, ValueError):
        return float(value)
    return default
