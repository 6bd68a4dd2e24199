"""Which learner a study names."""

from __future__ import annotations

from objectives.engines.adapter_files import AdapterFolder
from objectives.errors import PolicyError
from objectives.learners.protocol import Learner
from objectives.settings.dpo import DpoSettings
from objectives.settings.sections import WorkerSettings
from objectives.trial.resources import Loaded


def make_learner(settings: WorkerSettings, loaded: Loaded, adapters: AdapterFolder) -> Learner:
    """Makes the learner.

    Raises:
        TaskError: where the task has too few prompts for a step.
        PolicyError: where the packed learner cannot train this policy.
    """
    if settings.learner.name == "packed":
        from objectives.learners.packed.learner import PackedLearner

        if loaded.policy.engine is not None:
            raise PolicyError(
                "learner.name = 'packed' does not run on Unsloth's GPU kernels; set model.policy = 'peft'"
            )
        return PackedLearner(settings=settings, loaded=loaded, adapters=adapters, slots=settings.learner.slots)
    if isinstance(settings.learner, DpoSettings):
        from objectives.learners.dpo import DpoLearner

        return DpoLearner(settings=settings, learner=settings.learner, loaded=loaded, adapters=adapters)
    from objectives.learners.trl import TrlLearner

    return TrlLearner(settings=settings, loaded=loaded, adapters=adapters)
