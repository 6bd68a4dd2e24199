"""How much of the noise between seeds is that of scoring, and whether more prompts cost less than more seeds."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from objectives.trial.messages import HeldOutScore
from sweep.planning.measured import confirmed_share
from sweep.storage import attributes
from sweep.storage.trials import read_trials
from sweep.text import figure, percent

if TYPE_CHECKING:
    import optuna


def noise_sentence(search: optuna.Study, base: HeldOutScore | None, noise_sd: float) -> str:
    """What scoring on twice the prompts would do, against what it costs; empty where either is not known.

    Args:
        search: Whose trials say what share of their time scoring takes.
        base: The base policy's score, with the reward's spread between prompts.
        noise_sd: Standard deviation of a trial's score between seeds, scoring included.
    """
    searched = _share_of_time(search)
    share = None if searched is None else confirmed_share(searched)
    if base is None or not base.spread or not math.isfinite(noise_sd) or noise_sd <= 0 or share is None:
        return ""
    scoring = base.sampling_error
    begin = f"A score's noise between seeds is {figure(noise_sd)}; {base.prompts:,} held-out prompts alone make "
    if scoring >= noise_sd:
        part, worth = f"about {figure(scoring)}, so all of it", 2.0
    else:
        worth = noise_sd**2 / (noise_sd**2 - scoring**2 / 2)
        part = f"{figure(scoring)} of it"
    first = "more prompts come first" if worth > 1 + share else "more seeds come first"
    longer = percent(round(share, 2))
    return (
        f"{begin}{part}. Twice the prompts are worth {worth:.1f} times the seeds, in trials {longer} longer: {first}."
    )


def _share_of_time(search: optuna.Study) -> float | None:
    """The part of a trial's time that scoring took, in the middle of all trials."""
    found = []
    for trial in read_trials(search, curves=False):
        seconds = trial.user_attrs.get(attributes.COST, {}).get("seconds", {})
        if seconds.get("evaluate"):
            found.append(seconds["evaluate"] / math.fsum(seconds.values()))
    return statistics.median(found) if found else None
