"""Noticing that a trial has collapsed: the policy's reward is lost, and its groups carry no signal to regain it.

Lost means: below the base policy's by more than noise explains, and either by a share of the reward's own spread or
with hardly any spread left, since a hard task has less than that share to lose. Neither the units of a reward nor
where its zero is have a say in it, and a reward that is the same for everything cannot be lost.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from objectives.figures import decimals
from objectives.trial.messages import HeldOutScore, StepMetrics
from sweep.statistics.noise import SINGLE, rounding

SILENT_SHARE = 0.8
"""Share of groups without signal from which on a step counts as silent."""
LOST_SHARE = 0.3
"""Standard deviations of the reward that have to be lost. A policy that solves a quarter of its prompts and comes to
solve an eighth has lost as much."""
ALL_BUT_GONE = 0.1
"""Of the base policy's spread: with less left, whatever is lost beyond noise is all that there was."""
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
        # The rule of studies that were stored without a spread; they end under the rule they began with.
        return reward < base.sampled - 0.5 * abs(base.sampled)
    widest = max(base.spread, spread or 0.0)
    noise = 0.0
    if prompts is not None:
        noise = BEYOND_NOISE * math.hypot(base.sampling_error, widest / math.sqrt(prompts))
    share = 0.0 if is_all_but_gone(spread, base) else LOST_SHARE
    return base.sampled - reward > max(share * widest, noise, rounding(base.sampled, reward, precision=SINGLE))


def is_all_but_gone(spread: float | None, base: HeldOutScore) -> bool:
    """Whether prompts get next to the same reward where the base policy's got different ones."""
    return spread is not None and base.spread is not None and spread < ALL_BUT_GONE * base.spread


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
    _low: list[StepMetrics] = field(default_factory=list, init=False)
    """The silent steps in a row up to now that each lie far below the base policy."""
    _flat: list[StepMetrics] = field(default_factory=list, init=False)
    """Those that each lie below it with next to no spread."""

    def observe(self, metrics: StepMetrics) -> str | None:
        """Takes in a step; returns why the trial has collapsed, or None."""
        # A step whose completions have no reward says nothing of the policy.
        if metrics.unscored and math.isnan(metrics.reward):
            return None
        for name in ("reward", "loss", "grad_norm"):
            value = getattr(metrics, name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value} at step {metrics.step}"
        silent = metrics.groups_without_signal >= SILENT_SHARE
        low = silent and is_lost(metrics.reward, self.base)
        flat = silent and metrics.reward < self.base.sampled and is_all_but_gone(metrics.reward_std, self.base)
        # Two rows, not one: a hard task loses less than LOST_SHARE of the spread even when it loses everything.
        self._low = [*self._low, metrics] if low else []
        self._flat = [*self._flat, metrics] if flat else []
        row = next((row for row in (self._low, self._flat) if self._is_lost(row)), None)
        if row is None:
            return None
        return (
            f"collapsed at step {metrics.step}: {against_base(metrics.reward, self.base)}, "
            f"{metrics.groups_without_signal:.0%} of groups without signal, {len(row)} steps in a row"
        )

    def _is_lost(self, row: list[StepMetrics]) -> bool:
        if len(row) < self.patience:
            return False
        rewards, prompts = [metrics.reward for metrics in row], len(row) * self.prompts_per_step
        mean = math.fsum(rewards) / len(rewards)
        if row is self._low:
            return is_lost(mean, self.base, prompts=prompts)
        # A step's own spread is that within its groups; the one between prompts shows in how its means scatter.
        between = math.sqrt(self.prompts_per_step) * statistics.pstdev(rewards)
        spread = math.hypot(max(metrics.reward_std for metrics in row), between)
        return is_all_but_gone(spread, self.base) and is_lost(mean, self.base, spread=spread, prompts=prompts)
