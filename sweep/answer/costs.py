"""What a study says beyond the verdict: each rank's best configuration, and what each rank costs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.answer.paste import adapter_bytes
from sweep.confirmation.outcome import Confirmed, freeze
from sweep.errors import NothingToConfirmError
from sweep.statistics.smoothing import FrozenConfiguration, UntunedRank
from sweep.storage import attributes
from sweep.storage.summary import StudySummary

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class BestConfigurations:
    """One configuration for each rank that was tuned like the others, by ascending rank."""

    ranks: tuple[FrozenConfiguration, ...] = ()
    untuned: tuple[UntunedRank, ...] = ()
    why_none: str = ""
    """Empty where there are any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankCost:
    """A rank's mean held-out reward and what it costs; None where that is not known."""

    r: int
    reward: float
    n: int
    """Trials behind the reward."""
    ceiling: int
    """The smallest `max_lora_rank` that vLLM permits for it."""
    memory_bytes: int | None
    """What the engine that Unsloth starts on a GPU reserves for one adapter at this ceiling, to the byte."""
    adapter_parameters: int | None
    seconds_per_step: float | None
    """Median over the steps of the rank's trials. A pack steps all its ranks at once: there no rank has its own."""


def best_configurations(summary: StudySummary, confirmed: Confirmed | None) -> BestConfigurations:
    """What confirmation has frozen or, before one, what it would freeze: the best smoothed search estimates."""
    if confirmed is not None:
        frozen = confirmed.confirmation
        return BestConfigurations(ranks=frozen.frozen, untuned=frozen.untuned)
    try:
        search = freeze(summary, summary.config)
    except NothingToConfirmError as error:
        return BestConfigurations(why_none=str(error))
    return BestConfigurations(ranks=search.frozen, untuned=search.untuned)


def rank_costs(
    summary: StudySummary, confirmed: Confirmed | None, trials: Sequence[optuna.trial.FrozenTrial]
) -> list[RankCost]:
    """Every rank that has a mean, in ascending order.

    Args:
        summary: The search.
        confirmed: Its confirmation, whose means are taken where there is one.
        trials: Of whichever of the two the means are.
    """
    if confirmed is not None:
        means = [(rank.r, rank.mean, rank.n_seeds) for rank in confirmed.verdict.per_rank]
    else:
        means = [(rank.r, rank.mean_without_collapsed, rank.n - rank.collapsed) for rank in summary.ranks]
    parameters: dict[int, set[int]] = defaultdict(set)
    seconds: dict[int, list[float]] = defaultdict(list)
    for trial in trials:
        attrs = trial.user_attrs
        if attributes.COST in attrs:
            parameters[trial.params["r"]].add(attrs[attributes.COST]["adapter_parameters"])
            if summary.config.learner.name != "packed":
                seconds[trial.params["r"]] += attrs.get(attributes.CURVE, {}).get("seconds", [])
    return [
        RankCost(
            r=r,
            reward=mean,
            n=n,
            ceiling=summary.config.ceiling_for(r),
            memory_bytes=adapter_bytes(summary.config.model, summary.config.ceiling_for(r)),
            # Trials of a search may differ in which modules they adapt: a rank has no number of its own then.
            adapter_parameters=next(iter(parameters[r])) if len(parameters[r]) == 1 else None,
            seconds_per_step=statistics.median(seconds[r]) if seconds[r] else None,
        )
        for r, mean, n in means
        if mean is not None
    ]
