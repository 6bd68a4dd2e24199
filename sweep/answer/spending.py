"""What a study has spent so far, and what one trial of each rank takes."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.errors import UsageError
from sweep.storage import attributes

if TYPE_CHECKING:
    import optuna

HOUR_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpending:
    """One rank's trials. Medians are over those that neither collapsed nor were ended early; None where all did."""

    r: int
    trials: int
    seconds: float
    """All of its trials together."""
    seconds_per_trial: float | None
    tokens_per_trial: float | None

    @property
    def device_hours(self) -> float:
        """All of its trials together."""
        return self.seconds / HOUR_S

    @property
    def device_hours_per_trial(self) -> float | None:
        """Of the median trial."""
        return None if self.seconds_per_trial is None else self.seconds_per_trial / HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Every trial that ended with a result, by ascending rank."""

    ranks: tuple[RankSpending, ...]
    tokens: int
    unknown: int
    """Trials that left no result, and so no record of what they took: failed ones, and those that are running."""

    @property
    def trials(self) -> int:
        """Those that are counted."""
        return sum(rank.trials for rank in self.ranks)

    @property
    def seconds(self) -> float:
        """All trials together."""
        return sum(rank.seconds for rank in self.ranks)

    @property
    def device_hours(self) -> float:
        """All trials together."""
        return self.seconds / HOUR_S


def check_price(price: float | None) -> None:
    """Checks what a device hour is said to cost, where anything is said.

    Raises:
        UsageError: where it is no amount.
    """
    if price is not None and not 0 < price < math.inf:
        raise UsageError(f"--price {price:g}: must be money per device hour, above 0, for example 2.5")


def spending(trials: Sequence[optuna.trial.FrozenTrial]) -> Spending:
    """Adds up trials: their device time, and the tokens that they sampled."""
    ended = [trial for trial in trials if attributes.COST in trial.user_attrs]
    by_rank = defaultdict(list)
    for trial in ended:
        by_rank[trial.params["r"]].append(trial)
    return Spending(
        ranks=tuple(_rank_spending(r, own) for r, own in sorted(by_rank.items())),
        tokens=sum(trial.user_attrs[attributes.COST]["tokens"] for trial in ended),
        unknown=len(trials) - len(ended),
    )


def _rank_spending(r: int, trials: list[optuna.trial.FrozenTrial]) -> RankSpending:
    # One that collapsed was stopped: the median would be of a shorter trial.
    short = (attributes.COLLAPSED, attributes.ENDED_EARLY)
    whole = [trial for trial in trials if not any(trial.user_attrs.get(key) for key in short)]
    return RankSpending(
        r=r,
        trials=len(trials),
        seconds=sum(map(device_seconds, trials)),
        seconds_per_trial=statistics.median(map(device_seconds, whole)) if whole else None,
        tokens_per_trial=statistics.median(t.user_attrs[attributes.COST]["tokens"] for t in whole) if whole else None,
    )


def device_seconds(trial: optuna.trial.FrozenTrial) -> float:
    """The device time of a trial that ended with a result, in seconds.

    It is what the trial recorded of itself, not from its start to its end: in a pack these overlap, and the record is
    the trial's share.
    """
    parts: dict[str, float] = trial.user_attrs[attributes.COST]["seconds"]
    return sum(parts.values())
