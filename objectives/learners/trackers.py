"""Trackers that TRL reports to: every trial is a run of its own, named so that it is found again."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import TrialSpec


def run_name(settings: WorkerSettings, spec: TrialSpec) -> str:
    """What a trial's run is called: study, trial and seed."""
    return f"{settings.study}/{spec.number:04d}/{spec.seed}"


@contextmanager
def tracked(settings: WorkerSettings, spec: TrialSpec) -> Iterator[None]:
    """Tells trackers where a run belongs while it trains, and ends it there.

    Transformers 5.17 takes TensorBoard's folder and W&B's project from the environment alone, and leaves a W&B run
    open at the end of training, so that the next trial in the same process would go on in it.
    """
    places = {
        "TENSORBOARD_LOGGING_DIR": str(settings.log_folder / "tensorboard" / run_name(settings, spec)),
        "WANDB_PROJECT": settings.study,
        "MLFLOW_EXPERIMENT_NAME": settings.study,
    }
    # Where a user has said where runs belong, they go there.
    ours = {name: place for name, place in places.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]
        if "wandb" in settings.learner.report_to:
            importlib.import_module("wandb").finish()
