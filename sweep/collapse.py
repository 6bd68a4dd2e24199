"""Noticing that a trial has collapsed: the policy's reward is lost, and its groups carry no signal to regain it.

Lost means: below the base policy's by a share of the reward's own spread, and by more than noise explains. Neither the
units of a reward nor where its zero is have a say in it, and a reward that is the same for everything cannot be lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from objectives.figures import decimals
from objectives.trial import HeldOutScore, StepMetrics
from sweep.noise import SINGLE, rounding

SILENT_SHARE = 0.8
"""Share of groups without signal from which on a step counts as silent."""
LOST_SHARE = 0.3
"""Standard deviations of the reward that have to be lost. A policy that solves a quarter of its prompts and comes to
solve an eighth has lost as much."""
BEYOND_NOISE = 3.0
"""Standard errors of the difference from the base policy that have to be lost."""


def is_lost(reward: float, base: HeldOutScore, *, spread: float | None = None, prompts: int | None = None) -> bool:
    """Whether a mean reward lies so far below the base policy's that training has destroyed what there was.

    Args:
        reward: The mean.
        base: The base policy's score. One without a spread is of a study that was stored before there were any, whose
            rule was half the base policy's reward: it goes on under that.
        spread: Standard deviation of the reward between prompts, as this policy gets it; None where it is not known.
        prompts: Independent prompts that the mean is over; without them noise is left out of account.
    """
    if base.spread is None:
        return reward < base.sampled - 0.5 * abs(base.sampled)
    widest = max(base.spread, spread or 0.0)
    noise = 0.0
    if prompts is not None:
        noise = BEYOND_NOISE * math.hypot(base.spread / math.sqrt(base.prompts), widest / math.sqrt(prompts))
    return base.sampled - reward > max(LOST_SHARE * widest, noise, rounding(base.sampled, reward, precision=SINGLE))


def against_base(reward: float, base: HeldOutScore) -> str:
    """Both rewards in words."""
    places = decimals(base.spread or 0.0)
    return f"reward {reward:.{places}f} against the base policy's {base.sampled:.{places}f}"


def lost_on_held_out(score: HeldOutScore, base: HeldOutScore) -> str | None:
    """Why a trial counts as collapsed by its held-out score, in words; None where it does not."""
    if not is_lost(score.sampled, base, spread=score.spread, prompts=score.prompts):
        return None
    return f"collapsed: held-out {against_base(score.sampled, base)}"


@dataclass(slots=True, kw_only=True)
class CollapseMonitor:
    """Watches one trial's steps.

    Reward alone does not show a collapse (a hard task starts low), nor does silence (a solved task is silent):
    it is both, `patience` steps in a row or more. A step's few prompts say little, so that such a row is judged by its
    mean: the longer it gets, the less noise there is to explain it.
    """

    base: HeldOutScore
    patience: int
    prompts_per_step: int
    _silent: list[float] = field(default_factory=list, init=False)
    """Rewards of the silent steps in a row up to now."""

    def observe(self, metrics: StepMetrics) -> str | None:
        """Takes in a step; returns why the trial has collapsed, or None."""
        # A step whose completions have no reward says nothing of the policy.
        if metrics.unscored and math.isnan(metrics.reward):
            return None
        for name in ("reward", "loss", "grad_norm"):
            value = getattr(metrics, name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value} at step {metrics.step}"
        silent = metrics.groups_without_signal >= SILENT_SHARE and is_lost(metrics.reward, self.base)
        self._silent = [*self._silent, metrics.reward] if silent else []
        if len(self._silent) < self.patience:
            return None
        mean, prompts = math.fsum(self._silent) / len(self._silent), len(self._silent) * self.prompts_per_step
        if not is_lost(mean, self.base, prompts=prompts):
            return None
        return (
            f"collapsed at step {metrics.step}: {against_base(metrics.reward, self.base)}, "
            f"{metrics.groups_without_signal:.0%} of groups without signal, {len(self._silent)} steps in a row"
        )
