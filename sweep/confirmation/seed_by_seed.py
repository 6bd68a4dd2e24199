"""How far a confirmation has come that adds seeds one by one: what is judged, and who goes on.

Only prefixes are judged: seeds in order, complete for every rank that was needed then. Trials that collapse end sooner,
so what has arrived first is no fair sample. A trial that was under way when its rank, or the study, stopped is stored
and not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweep.confirmation.scores import ConfirmationTrials
from sweep.statistics.assessment import Assessment, assess
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.paired import BoolArray
from sweep.statistics.rule import Rule
from sweep.statistics.sequential import Standing, stand
from sweep.statistics.smoothing import SmoothedSearch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Progress:
    """Where a confirmation stands."""

    seeds: tuple[int, ...]
    """What is judged, in order."""
    counted: BoolArray
    """Shape (n_ranks, n_seeds): trials that belong to it."""
    needed: tuple[int, ...]
    """The r of each rank that the next seed runs; empty where it has stopped."""
    assessment: Assessment | None
    """Of those seeds; None before the first."""
    standing: Standing | None

    @property
    def stopped(self) -> bool:
        """No further seed is run."""
        return not self.needed

    def ending(self, rule: Rule) -> str:
        """Why it goes no further, in a sentence; empty while it goes on."""
        if not self.stopped or self.standing is None:
            return ""
        after = f"after {len(self.seeds)} of at most {rule.cap} seeds"
        if self.standing.settled:
            return f"Settled {after}."
        if len(self.seeds) == rule.cap:
            return f"All {rule.cap} seeds are run."
        return f"Given up {after}: the chance that the last one would settle it is about {self.standing.chance:.0%}."


def only_counted(confirmation: Confirmation, counted: BoolArray) -> Confirmation:
    """The confirmation without trials that do not count, as if they had not run."""
    return replace(
        confirmation,
        scores=np.where(counted, confirmation.scores, np.nan),
        collapsed=confirmation.collapsed & counted,
    )


def progress_of(
    trials: ConfirmationTrials, search: SmoothedSearch, rule: Rule, *, seeds: Sequence[int], step: int
) -> Progress:
    """Goes through the seeds as they were, or would have been, added.

    Args:
        trials: That have ended.
        search: What is frozen.
        rule: One with a cap.
        seeds: In order, to the last that may be run.
        step: Of a trial, after which it is judged.
    """
    ranks = [frozen.r for frozen in search.frozen]
    whole = trials.confirmation(search, seeds, rule, step=step)
    counted = np.zeros(whole.scores.shape, dtype=np.bool_)
    needed = np.ones(len(ranks), dtype=np.bool_)
    assessment, standing, n = None, None, 0
    for seed in seeds:
        if not needed.any() or not all(trials.has_ended(ranks[i], seed) for i in np.flatnonzero(needed)):
            break
        counted[:, n], n = needed, n + 1
        assessment = assess(only_counted(whole.first(n), counted[:, :n]), rule)
        standing = stand(assessment.evidence, assessment.decision, rule)
        needed = needed & standing.needed if bool(standing.goes_on(n, rule)) else np.zeros_like(needed)
    return Progress(
        seeds=tuple(seeds[:n]),
        counted=counted[:, :n],
        needed=tuple(r for r, goes_on in zip(ranks, needed.tolist(), strict=True) if goes_on),
        assessment=assessment,
        standing=standing,
    )
