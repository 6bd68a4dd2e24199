"""Noticing that a trial has collapsed: the policy's reward is lost, and its groups carry no signal to regain it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from objectives.trial import StepMetrics

SILENT_SHARE = 0.8
"""Share of groups without signal from which on a step counts as silent."""


def collapse_floor(baseline: float) -> float:
    """Half the base policy's reward: below it, training has destroyed more than it could have failed to add."""
    return baseline - 0.5 * abs(baseline)


@dataclass(slots=True, kw_only=True)
class CollapseMonitor:
    """Watches one trial's steps.

    Reward alone does not show a collapse (a hard task starts low), nor does silence (a solved task is silent):
    it is both, `patience` steps in a row.
    """

    baseline: float
    patience: int
    _silent_steps: int = field(default=0, init=False)

    def observe(self, metrics: StepMetrics) -> str | None:
        """Takes in a step; returns why the trial has collapsed, or None."""
        # A step whose completions have no reward says nothing of the policy.
        if metrics.unscored and math.isnan(metrics.reward):
            return None
        for name in ("reward", "loss", "grad_norm"):
            value = getattr(metrics, name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value} at step {metrics.step}"
        silent = metrics.groups_without_signal >= SILENT_SHARE and metrics.reward < collapse_floor(self.baseline)
        self._silent_steps = self._silent_steps + 1 if silent else 0
        if self._silent_steps < self.patience:
            return None
        return (
            f"collapsed at step {metrics.step}: reward {metrics.reward:.3f} against the base policy's "
            f"{self.baseline:.3f}, {metrics.groups_without_signal:.0%} of groups without signal, "
            f"{self.patience} steps in a row"
        )
