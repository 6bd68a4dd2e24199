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

    def least_sd(self, prompts: int | None) -> float:
        """What a difference's standard deviation between seeds is taken for at least.

        Often no completion at all is cut, and seeds that agree are no sign of a spread of zero. A share that is worse
        by just `worse_by` than a share of none has this spread over so many prompts.
        """
        if self.measure != "cut" or prompts is None:
            return 0.0
        return math.sqrt(max(self.worse_by * (1 - self.worse_by), 0.0) / prompts)


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
