"""Whether a search has learned anything: its trials against the base policy, before anybody asks which rank is best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweep.statistics.noise import rounding, sampling_error
from sweep.storage.summary import StudySummary, TrialSummary, summarize
from sweep.text import figure

if TYPE_CHECKING:
    import optuna
    from rich.console import Console


class DesignWatch:
    """Warns as soon as the design has ended without a gain: the rest of the search can be spared."""

    def __init__(self, study: optuna.Study, console: Console) -> None:
        self._study, self._console = study, console
        self._done = bool(_ended_design(summarize(study)))
        self._said = ""

    def look(self) -> None:
        """To be called after each trial."""
        if self._done:
            return
        summary = summarize(self._study)
        self._done = bool(_ended_design(summary))
        self.say(summary)

    def say(self, summary: StudySummary) -> None:
        """Warns where there is reason to, unless that has just been said: a design may be the whole search."""
        warning = unlearned_warning(summary)
        if warning and warning != self._said:
            self._console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
        self._said = warning


def unlearned_warning(summary: StudySummary) -> str:
    """What whoever is about to go on should know where no trial has gained; empty otherwise.

    Nobody is warned before the design has ended. A study without scores of the base policy under its trials' own seeds
    is not asked.
    """
    scored = [trial for trial in summary.trials if trial.gain is not None]
    if summary.base is None or summary.base.spread is None or not _ended_design(summary) or not scored:
        return ""
    noise = 2 * sampling_error(summary.base.spread, summary.base.prompts)
    if any(_gained(trial, noise) for trial in scored):
        return ""
    doubt = f", and less than {figure(noise)} may be noise" if noise > 0 else ""
    return (
        f"no trial so far has gained over the base policy: the best of {len(scored)} has {_most(scored)}{doubt}. "
        "As far as this shows nothing is being learned, and no rank can be told from another: try higher learning "
        "rates or more steps, or see with `sweep try-reward` if there is a signal"
    )


def _ended_design(summary: StudySummary) -> list[TrialSummary]:
    """The design's trials, once all of them have ended; none before."""
    ended = [trial for trial in summary.trials if trial.design and trial.state in ("complete", "pruned", "fail")]
    wanted = min(summary.config.design_size, summary.config.search.trials)
    return ended if len(ended) >= wanted else []


def _gained(trial: TrialSummary, noise: float) -> bool:
    return not trial.collapsed and trial.gain is not None and trial.gain > max(noise, _rounding(trial))


def _rounding(trial: TrialSummary) -> float:
    """What a trial may seem to have gained where rewards are all the same."""
    return rounding(trial.value or 0.0, trial.gain or 0.0)


def _most(trials: Sequence[TrialSummary]) -> str:
    gain, noise = max((trial.gain, _rounding(trial)) for trial in trials if trial.gain is not None)
    best = gain if abs(gain) > noise else 0.0
    return f"{'+' if best > 0 else ''}{figure(best)}"
