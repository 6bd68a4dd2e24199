"""A confirmation's stored trials as the statistics take them: scores by rank and seed, and the base policy's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from objectives.trial.messages import HeldOutScore
from sweep.statistics.confirmation import Confirmation
from sweep.statistics.guards import Guard
from sweep.statistics.paired import FloatArray
from sweep.statistics.rule import Rule
from sweep.statistics.smoothing import SmoothedSearch
from sweep.storage import attributes
from sweep.storage.attributes import REDONE, SEED
from sweep.storage.trials import read_trials

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmationTrials:
    """The trials of a confirmation that have ended."""

    by_rank_and_seed: Mapping[tuple[int, int], dict[str, Any]]
    """Attributes of those that have a score or collapsed."""
    failed: frozenset[tuple[int, int]] = frozenset()
    """Rank and seed of the others."""

    @classmethod
    def read(cls, study: optuna.Study) -> ConfirmationTrials:
        """All that a confirmation has stored."""
        ended = [trial for trial in read_trials(study, curves=False) if trial.state.is_finished()]
        failed = [trial for trial in ended if trial.state.name == "FAIL" and REDONE not in trial.user_attrs]
        return cls(
            failed=frozenset((trial.params["r"], trial.user_attrs[SEED]) for trial in failed if "r" in trial.params),
            by_rank_and_seed={
                (trial.params["r"], trial.user_attrs[SEED]): trial.user_attrs
                for trial in ended
                if attributes.SCORES in trial.user_attrs or trial.user_attrs.get(attributes.COLLAPSED)
            },
        )

    def seeds(self, most: int) -> list[int]:
        """The first seeds that were run, no more than so many."""
        return sorted({seed for _, seed in self.by_rank_and_seed})[:most]

    def has(self, r: int, seed: int) -> bool:
        """Whether a rank's trial on a seed has ended."""
        return (r, seed) in self.by_rank_and_seed

    def without(self, again: Set[tuple[int, int]]) -> ConfirmationTrials:
        """The same, with some that failed not ended yet: they are run again."""
        return replace(self, failed=self.failed - again)

    def has_ended(self, r: int, seed: int) -> bool:
        """Whether it has ended, with a score or without."""
        return self.has(r, seed) or (r, seed) in self.failed

    def confirmation(self, search: SmoothedSearch, seeds: Sequence[int], rule: Rule, *, step: int) -> Confirmation:
        """Scores after a number of steps, nan where a trial has none. A collapsed trial has collapsed at every step.

        Args:
            search: What is frozen.
            seeds: To judge by.
            rule: Says whether the base policy is looked at, and what else is.
            step: After which the scores were taken.
        """
        found = [[self._score(frozen.r, seed, step) for seed in seeds] for frozen in search.frozen]
        collapsed = [[self._collapsed(frozen.r, seed) for seed in seeds] for frozen in search.frozen]
        sampled = [[math.nan if score is None else score.sampled for score in row] for row in found]
        base, shape = self._base_scores(seeds), (len(found), len(seeds))
        return Confirmation(
            frozen=search.frozen,
            scores=np.array(sampled, dtype=np.float64).reshape(shape),
            collapsed=np.array(collapsed, dtype=np.bool_).reshape(shape),
            base=_means(base) if rule.gains else None,
            untuned=search.untuned,
            spread=_spread([score for scores in base for score in scores], [s for row in found for s in row if s]),
            prompts=min((score.prompts for scores in base for score in scores), default=None),
            guards=tuple(
                np.array([[_measured(score, guard) for score in row] for row in found], dtype=np.float64).reshape(shape)
                for guard in rule.guards
            ),
        )

    def unscored_share(self, r: int, seeds: Sequence[int], *, step: int) -> float | None:
        """Mean share of a rank's held-out completions without a reward; None where no trial counts."""
        scores = [self._score(r, seed, step) for seed in seeds if not self._collapsed(r, seed)]
        return _unscored_share([score for score in scores if score is not None])

    def base_unscored_share(self, seeds: Sequence[int]) -> float | None:
        """The base policy's; None where it was not scored under these seeds."""
        return _unscored_share([score for scores in self._base_scores(seeds) for score in scores[:1]])

    def _collapsed(self, r: int, seed: int) -> bool:
        return bool(self.by_rank_and_seed.get((r, seed), {}).get(attributes.COLLAPSED))

    def _score(self, r: int, seed: int, step: int) -> HeldOutScore | None:
        scores = self.by_rank_and_seed.get((r, seed), {}).get(attributes.SCORES, [])
        return next((HeldOutScore(**score) for score in reversed(scores) if score["step"] == step), None)

    def _base_scores(self, seeds: Sequence[int]) -> list[list[HeldOutScore]]:
        """The base policy's scores on each seed, as every trial of the seed tells them."""
        told: dict[int, list[HeldOutScore]] = {seed: [] for seed in seeds}
        for (_, seed), attrs in self.by_rank_and_seed.items():
            if seed in told and (base := attributes.base_score(attrs)) is not None:
                told[seed].append(base)
        return list(told.values())


def _measured(score: HeldOutScore | None, guard: Guard) -> float:
    """A guard's measure; nan where a trial has none."""
    kind, _, name = guard.measure.partition(":")
    if score is None:
        return math.nan
    value = score.rewards.get(name) if kind == "reward" else getattr(score, kind)
    return math.nan if value is None else float(value)


def _means(base: Sequence[Sequence[HeldOutScore]]) -> FloatArray:
    """The base policy's score on each seed, nan where no trial of the seed has it.

    All trials of a seed tell the same, up to what a change of processor does to it: then the mean.
    """
    return np.array([np.mean([score.sampled for score in scores]) if scores else np.nan for scores in base])


def _spread(base: Sequence[HeldOutScore], trials: Sequence[HeldOutScore]) -> float | None:
    """The wider of the mean spreads of the base policy and of the trials: one that solves nothing has none."""
    means = []
    for scores in (base, trials):
        known = [score.spread for score in scores if score.spread is not None and math.isfinite(score.spread)]
        means += [math.fsum(known) / len(known)] if known else []
    return max(means, default=None) if base else None


def _unscored_share(scores: Sequence[HeldOutScore]) -> float | None:
    return math.fsum(score.unscored_share for score in scores) / len(scores) if scores else None
