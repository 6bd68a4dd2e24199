"""What can go wrong in a trial, by whose doing."""

from __future__ import annotations


class TrialError(Exception):
    """A trial cannot go on; `kind` names the cause in the stored study.

    Every subclass takes its whole message as its only argument, so that it survives pickling.
    """

    kind = "error"


class PolicyError(TrialError):
    """The model or its adapter is not what the trial asked for."""

    kind = "policy"


class EngineError(TrialError):
    """The rollout engine refused or failed a request."""

    kind = "engine"


class RewardError(TrialError):
    """A reward function broke its contract: the user's bug, so it stops the study."""

    kind = "reward"


class TaskError(TrialError, ValueError):
    """A task cannot be built from its settings: the user's mistake, so it stops the study."""

    kind = "task"


class ModelConfigError(TrialError, ValueError):
    """A model's config.json cannot be found, read or planned with."""

    kind = "model"
