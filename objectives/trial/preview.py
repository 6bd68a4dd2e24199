"""What the base policy does on training prompts, before anything is trained: plain data."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One prompt, its completions, and every reward function's value for each completion."""

    prompt: Any
    completions: tuple[Any, ...]
    rewards: dict[str, tuple[float | None, ...]]
    totals: tuple[float, ...]
    """The weighted sum for each completion; NaN where no function applies."""
    truncated: int
    """Completions that were cut at the longest length."""

    @property
    def has_signal(self) -> bool:
        """Whether the completions' rewards differ, so that GRPO's advantages are not all zero."""
        scored = [total for total in self.totals if not math.isnan(total)]
        # The absolute tolerance of torch.isclose, by which training counts groups without a signal.
        return len(scored) > 1 and max(scored) - min(scored) > 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What the base policy does on training prompts."""

    groups: tuple[Group, ...]
    warnings: tuple[str, ...] = ()
    """What a study would trip over, a sentence each."""

    @property
    def share_with_signal(self) -> float:
        """Share of groups in [0, 1] that GRPO can learn from."""
        return statistics.fmean(group.has_signal for group in self.groups)

    @property
    def share_truncated(self) -> float:
        """Share of completions in [0, 1] that were cut at the longest length."""
        return sum(group.truncated for group in self.groups) / sum(len(group.totals) for group in self.groups)

    @property
    def mean(self) -> float:
        """Mean reward over all completions that have one."""
        return statistics.fmean(total for group in self.groups for total in group.totals if not math.isnan(total))

    @property
    def spread(self) -> float:
        """Standard deviation of the reward over all completions that have one."""
        return statistics.pstdev(total for group in self.groups for total in group.totals if not math.isnan(total))

    def by_function(self) -> dict[str, tuple[float | None, float | None]]:
        """Mean and standard deviation of each reward function, over the completions that it applies to."""
        found: dict[str, tuple[float | None, float | None]] = {}
        for name in self.groups[0].rewards:
            values = [v for group in self.groups for v in group.rewards[name] if v is not None]
            found[name] = (statistics.fmean(values), statistics.pstdev(values)) if values else (None, None)
        return found
