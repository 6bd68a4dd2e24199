"""How TRL's trainers run trials here, whatever they train by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from objectives.learners.protocol import TrialFeed
from objectives.learners.trackers import run_name
from objectives.learners.trial_log import trial_boundary
from objectives.policies.protocol import Policy
from objectives.settings.sections import WorkerSettings
from objectives.trial.messages import TrialResult, TrialSpec


def one_by_one(
    feed: TrialFeed, settings: WorkerSettings, policy: Policy, train: Callable[[TrialSpec, TrialFeed], TrialResult]
) -> None:
    """Trains a feed's trials one after another. The policy is itself again after each, however it ends."""
    while (spec := feed.take()) is not None:
        try:
            with trial_boundary(feed, spec.number, settings.log_folder):
                feed.finish(spec.number, train(spec, feed))
        finally:
            # Out here: until the boundary is left, the trainer is held by an error's traceback.
            policy.release()


def run_arguments(settings: WorkerSettings, spec: TrialSpec, folder: str) -> dict[str, Any]:
    """The arguments of any of TRL's configurations that do not say what is optimised.

    Args:
        settings: What trials share.
        spec: The trial.
        folder: Where the trainer may write; nothing there is kept.
    """
    import torch

    model, on_gpu = settings.model, torch.cuda.is_available()
    return {
        "output_dir": folder,
        "seed": spec.seed,
        "data_seed": spec.seed,
        "learning_rate": spec.learning_rate,
        "max_steps": settings.budget.steps,
        "bf16": model.number_format == "bfloat16" and on_gpu,
        "fp16": model.number_format == "float16" and on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": model.gradient_checkpointing != "off",
        "logging_steps": 1,
        # Adapters are saved by our own AdapterFolder; what TRL writes is deleted with the folder.
        "save_strategy": "no",
        "report_to": list(settings.learner.report_to) or "none",
        "run_name": run_name(settings, spec),
        "project": settings.study,
        "disable_tqdm": True,
    }
