"""What a search found for each set of target modules, and what its adapters cost."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sweep.storage.summary import StudySummary, TrialSummary


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetSetResult:
    """The trials of one set that have a value, without what somebody chose by hand."""

    name: str
    fewest_parameters: int | None
    """Of its trials' adapters: at the smallest rank. None where not known."""
    most_parameters: int | None
    n: int
    collapsed: int
    mean: float | None
    """Of those that did not collapse."""
    best: TrialSummary


def target_set_results(summary: StudySummary) -> tuple[TargetSetResult, ...]:
    """Every set with a value, in the order of the study file; empty where no more than one was searched."""
    found, sets = [], summary.config.space.target_modules or ()
    for name in sets if len(sets) > 1 else ():
        own = [t for t in summary.trials if t.target_modules == name and t.value is not None and not t.added]
        if not own:
            continue
        learned = [trial.value for trial in own if trial.value is not None and not trial.collapsed]
        parameters = [trial.adapter_parameters for trial in own if trial.adapter_parameters is not None]
        found.append(
            TargetSetResult(
                name=name,
                fewest_parameters=min(parameters, default=None),
                most_parameters=max(parameters, default=None),
                n=len(own),
                collapsed=sum(trial.collapsed for trial in own),
                mean=math.fsum(learned) / len(learned) if learned else None,
                best=max(own, key=lambda trial: -math.inf if trial.value is None else trial.value),
            )
        )
    return tuple(found)


def same_points(summary: StudySummary) -> bool:
    """Whether the search has finished its design, so that every set had the same points with every rank."""
    config, found = summary.config, defaultdict[tuple[int, str], set[tuple[Any, ...]]](set)
    for trial in summary.trials:
        if trial.design and trial.value is not None and trial.r is not None and trial.target_modules is not None:
            found[trial.r, trial.target_modules].add((trial.alpha, trial.learning_rate, trial.use_rslora))
    for r in config.search_space().r:
        points = [found[r, name] for name in config.space.target_modules or ()]
        if any(own != points[0] or len(own) < config.search.points_per_rank for own in points):
            return False
    return True


def adapter_parameters(summary: StudySummary) -> dict[tuple[int, str], int]:
    """How many numbers the adapters of the search hold, by rank and set of target modules."""
    return {
        (trial.r, trial.target_modules): trial.adapter_parameters
        for trial in summary.trials
        if trial.r is not None and trial.target_modules is not None and trial.adapter_parameters is not None
    }
