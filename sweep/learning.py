"""Whether a search has learned anything: its trials against the base policy, before anybody asks which rank is best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from objectives.trial import HeldOutScore
from sweep.summary import StudySummary, TrialSummary, summarize
from sweep.units import figure

if TYPE_CHECKING:
    import optuna
    from rich.console import Console


class DesignWatch:
    """Warns once, as soon as the design has ended without a gain: the rest of the search can be spared."""

    def __init__(self, study: optuna.Study, console: Console) -> None:
        self._study, self._console = study, console
        self._done = bool(_ended_design(summarize(study)))

    def look(self) -> None:
        """To be called after each trial."""
        if self._done:
            return
        summary = summarize(self._study)
        self._done = bool(_ended_design(summary))
        if warning := unlearned_warning(summary):
            self._console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


def unlearned_warning(summary: StudySummary) -> str:
    """What whoever is about to go on should know where no trial has gained; empty otherwise.

    Nobody is warned before the design has ended. A study without scores of the base policy under its trials' own seeds
    is not asked.
    """
    scored = [trial for trial in summary.trials if trial.gain is not None]
    if summary.base is None or summary.base.spread is None or not _ended_design(summary) or not scored:
        return ""
    noise = 2 * _error(summary.base)
    if any(_gained(trial, noise) for trial in scored):
        return ""
    return (
        f"no trial so far has gained over the base policy: the best of {len(scored)} has {_most(scored)}, and less "
        f"than {figure(noise)} may be noise. As far as this shows nothing is being learned, and no rank can be told "
        "from another: try higher learning rates or more steps, or see with `sweep try-reward` if there is a signal"
    )


def _ended_design(summary: StudySummary) -> list[TrialSummary]:
    """The design's trials, once all of them have ended; none before."""
    ended = [trial for trial in summary.trials if trial.design and trial.state in ("complete", "pruned", "fail")]
    wanted = summary.config["search"]["points_per_rank"] * len(summary.ladder)
    return ended if len(ended) >= min(wanted, summary.config["search"]["trials"]) else []


def _gained(trial: TrialSummary, noise: float) -> bool:
    return not trial.collapsed and trial.gain is not None and trial.gain > noise


def _most(trials: Sequence[TrialSummary]) -> str:
    best = max(trial.gain for trial in trials if trial.gain is not None)
    return f"{'+' if best > 0 else ''}{figure(best)}"


def _error(base: HeldOutScore) -> float:
    """Standard error of the difference between two scores on as many prompts as the base policy's."""
    return math.sqrt(2 / base.prompts) * (base.spread or 0.0)
