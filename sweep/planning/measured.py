"""What a few steps of one trial took, and what the study would take at that pace."""

from __future__ import annotations

import math
from dataclasses import dataclass

from objectives.trial.messages import HeldOutScore
from sweep.text import duration, figure, percent


def confirmed_share(searched: float) -> float:
    """The part of a confirmation's trial that scoring takes, by what it takes of a search's.

    The one is sampled on held-out prompts three times and greedily once, the other once each.
    """
    return 2 * searched / (1 + searched)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a calibration took, and what the study would take at that pace. All in seconds."""

    r: int
    """The rank that was timed: the largest, which is the slowest."""
    load_seconds: float
    slots: int
    """Trials that ran at once, as many as the study runs."""
    step_seconds: float
    """Median of the typical steps; in a pack, a step of all its trials."""
    build_seconds: float
    evaluation_seconds: float
    """Of scoring one trial."""
    trial_seconds: float
    """In a pack, a trial's share of what its trials take together."""
    study_seconds: float
    mean_completion_tokens: float
    """Completions grow or shrink as a policy learns, and time with them."""
    base: HeldOutScore | None = None
    """The base policy's score."""

    @property
    def spread(self) -> float | None:
        """The standard deviation of the base policy's reward between prompts; None where it has none."""
        return self.base.spread if self.base is not None and self.base.spread else None

    @property
    def noise(self) -> str:
        """What scoring adds to a score's noise, and what more prompts or one more seed would cost; may be empty."""
        if self.base is None or self.spread is None:
            return ""
        share = self.evaluation_seconds / self.trial_seconds
        confirmed = self.trial_seconds * (1 + share)
        longer = percent(round(confirmed_share(share), 2))
        scoring = figure(self.base.sampling_error)
        return (
            f"{self.base.prompts:,} held-out prompts alone make {scoring} of noise in a score. Twice as many take away "
            f"{percent(round(1 - math.sqrt(0.5), 2))} of that, in a confirmation's trials {longer} longer; one more "
            f"seed is one more trial of {duration(confirmed)} for each rank."
        )
