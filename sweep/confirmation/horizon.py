"""A confirmation that goes on to more steps than its study declares: the same configurations, a horizon of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweep.confirmation.naming import confirmation_study
from sweep.confirmation.outcome import stored_frozen
from sweep.errors import NothingToConfirmError, UsageError
from sweep.statistics.smoothing import SmoothedSearch
from sweep.study.file import StudyFile

if TYPE_CHECKING:
    import optuna


def lengthened(config: StudyFile, searched: optuna.Study, steps: int) -> tuple[StudyFile, SmoothedSearch]:
    """The study with more steps, and what its confirmation has frozen.

    Args:
        config: As it was searched and confirmed.
        searched: Its search.
        steps: A trial.

    Raises:
        UsageError: where they are not more.
        NothingToConfirmError: where nothing was confirmed yet.
    """
    if steps <= config.budget.steps:
        raise UsageError(f"--steps {steps}; allowed: more than budget.steps={config.budget.steps}, which is confirmed")
    if (confirmation := confirmation_study(searched)) is None:
        raise NothingToConfirmError("--steps goes on with a confirmation, and there is none yet: `sweep confirm` first")
    budget = config.budget.model_copy(update={"steps": steps})
    return config.model_copy(update={"budget": budget}), stored_frozen(confirmation)
