"""Guards: measures besides the score, on which a smaller rank may not be much worse than the start of the step-down.

Each is a test of non-inferiority by the same paired t bounds as the score, at the same error: the lower bound of the
rank's measure less the start's, turned so that more is better, exceeds -worse_by. A rank has to pass the score and
every guard, so that none needs a correction (an intersection-union test, see `decision`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweep.statistics.paired import BoolArray, FloatArray, IntArray, PairedBounds

_ROUNDING = 1e-6
"""What the mean of ones may be off by, in single precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A measure of held-out completions, as it is declared."""

    measure: str
    """`reward:NAME`, of which more is better; `completion_tokens` or `cut`, of which less is."""
    worse_by: float
    """How much worse a smaller rank may be, in the measure's own units; > 0."""

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        names = {"completion_tokens": "completion length", "cut": "share of cut completions"}
        return names.get(self.measure, self.measure.removeprefix("reward:"))

    @property
    def sign(self) -> float:
        """What the measure is multiplied by for more to be better."""
        return 1.0 if self.measure.startswith("reward:") else -1.0

    def least_sd(self, prompts: int | None, measured: FloatArray) -> FloatArray:
        """What a difference's standard deviation between seeds is taken for at least; shape (..., 1, 1).

        Where a share of completions is near none or all, seeds often agree, and that is no sign of a spread of zero. A
        share that is worse by just `worse_by` than such a one has this spread over so many prompts. A reward whose
        means all lie in [0, 1] may be such a share, as one for a format is; of others nothing of the kind is known.

        Args:
            prompts: Held-out prompts that a measure is the mean over; None where that is not known.
            measured: Shape (..., n_ranks, n_seeds); nan where it does not count.
        """
        shape = (*measured.shape[:-2], 1, 1)
        if self.measure == "completion_tokens" or prompts is None or self.worse_by >= 1:
            return np.zeros(shape)
        outside = (measured < -_ROUNDING) | (measured > 1 + _ROUNDING)
        is_share = ~outside.any(axis=(-2, -1)).reshape(shape)
        return np.where(is_share, math.sqrt(self.worse_by * (1 - self.worse_by) / prompts), 0.0)


def guards_kept(bounds: Sequence[PairedBounds], guards: Sequence[Guard], start: IntArray) -> BoolArray:
    """Shape (n_guards, ..., n_ranks): ranks that are shown not to be worse than the start by more than is allowed.

    Args:
        bounds: Of each guard.
        guards: As declared.
        start: Shape (...); it is never worse than itself.
    """
    lowest = _against(start, [own.lower for own in bounds])
    is_start = np.arange(lowest.shape[-1]) == start[..., None]
    return np.asarray((lowest > -_allowed(guards, lowest)) | is_start)


def guards_broken(bounds: Sequence[PairedBounds], guards: Sequence[Guard], start: IntArray) -> BoolArray:
    """Shape (n_guards, ..., n_ranks): ranks that are shown to be worse than the start by more than is allowed."""
    highest = _against(start, [own.upper for own in bounds])
    return np.asarray(highest < -_allowed(guards, highest))


def _against(start: IntArray, contrasts: Sequence[FloatArray]) -> FloatArray:
    """Shape (n_guards, ..., n_ranks): each rank's contrast with the start."""
    return np.stack([np.take_along_axis(own, start[..., None, None], axis=-1)[..., 0] for own in contrasts])


def _allowed(guards: Sequence[Guard], like: FloatArray) -> FloatArray:
    return np.array([guard.worse_by for guard in guards]).reshape(-1, *[1] * (like.ndim - 1))
