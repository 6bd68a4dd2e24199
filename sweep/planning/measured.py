"""What a few steps of one trial took, and what the study would take at that pace."""

from __future__ import annotations

from dataclasses import dataclass


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
