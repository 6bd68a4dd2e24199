"""Confirmation trials, as the statistics need them: every tuned rank on the same fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sweep.statistics.noise import rounding
from sweep.statistics.paired import BoolArray, FloatArray, IntArray
from sweep.statistics.smoothing import FrozenConfiguration, UntunedRank


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confirmation:
    """One score per rank and seed, for the configurations frozen after the search."""

    frozen: tuple[FrozenConfiguration, ...]
    """One per judged rank, by ascending r."""
    scores: FloatArray
    """Shape (n_ranks, n_seeds), held-out score; nan where the trial failed or has not run yet. Where the
    trial collapsed the value is not looked at."""
    collapsed: BoolArray
    """Shape (n_ranks, n_seeds)."""
    base: FloatArray | None = None
    """Shape (n_seeds,): the base policy's score on each seed, nan where it has none; None for a study that did not
    score it so, and can be judged by scores alone."""
    untuned: tuple[UntunedRank, ...] = ()
    """Ranks of the ladder that are not judged."""
    spread: float | None = None
    """Standard deviation of the reward between prompts; None where it is not known."""
    prompts: int | None = None
    """Held-out prompts that a score is the mean over; None where that is not known."""
    guards: tuple[FloatArray, ...] = ()
    """Of each guard its measure, shape (n_ranks, n_seeds); nan where a trial has none."""

    def __post_init__(self) -> None:
        ranks = [configuration.r for configuration in self.frozen]
        if ranks != sorted(set(ranks)):
            raise ValueError(f"frozen configurations must have distinct ranks in ascending order, got {ranks}")
        twice = set(ranks) & {rank.r for rank in self.untuned}
        if twice:
            raise ValueError(f"ranks {sorted(twice)} are both frozen and untuned")
        if self.scores.ndim != 2 or len(self.scores) != len(ranks):
            raise ValueError(f"scores must have shape ({len(ranks)}, n_seeds), got {self.scores.shape}")
        if self.collapsed.shape != self.scores.shape:
            raise ValueError(f"collapsed must have shape {self.scores.shape}, got {self.collapsed.shape}")
        if self.base is not None and self.base.shape != self.scores.shape[1:]:
            raise ValueError(f"base must have shape {self.scores.shape[1:]}, got {self.base.shape}")

    def first(self, n_seeds: int) -> Confirmation:
        """The same over the first so many seeds."""
        base = None if self.base is None else self.base[:n_seeds]
        return replace(
            self,
            scores=self.scores[:, :n_seeds],
            collapsed=self.collapsed[:, :n_seeds],
            base=base,
            guards=tuple(own[:, :n_seeds] for own in self.guards),
        )

    @property
    def gains(self) -> FloatArray:
        """Shape (n_ranks, n_seeds): scores less the base policy's on the same seed; scores where that is not known."""
        return self.scores if self.base is None else self.scores - self.base

    @property
    def rounding(self) -> float:
        """What a gain may be off by where there is none."""
        known = [self.scores[self.alive], np.zeros(0) if self.base is None else self.base]
        return rounding(*np.concatenate(known).tolist())

    @property
    def alive(self) -> BoolArray:
        """Shape (n_ranks, n_seeds): the trial finished without collapse, its score counts."""
        return np.isfinite(self.gains) & ~self.collapsed

    @property
    def n_alive(self) -> IntArray:
        """Shape (n_ranks,): seeds whose score counts."""
        return np.asarray(self.alive.sum(axis=1), dtype=np.int64)

    @property
    def n_collapsed(self) -> IntArray:
        """Shape (n_ranks,): seeds that collapsed."""
        return np.asarray(self.collapsed.sum(axis=1), dtype=np.int64)

    @property
    def n_ran(self) -> IntArray:
        """Shape (n_ranks,): seeds that finished, collapsed or not."""
        return self.n_alive + self.n_collapsed
