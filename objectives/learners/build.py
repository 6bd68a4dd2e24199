"""Which learner a study names."""

from __future__ import annotations

from objectives.adapters import AdapterFolder
from objectives.learners.protocol import Learner
from objectives.loading import Loaded
from objectives.settings import WorkerSettings


def make_learner(settings: WorkerSettings, loaded: Loaded, adapters: AdapterFolder) -> Learner:
    """Makes the learner.

    Raises:
        TaskError: where the task has too few prompts for a step.
    """
    from objectives.learners.trl import TrlLearner

    return TrlLearner(settings=settings, loaded=loaded, adapters=adapters)
