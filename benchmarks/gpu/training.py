"""A GRPO step's time and memory, by whichever learner a study names, beside what is planned for it."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.step import RANKS, Feed

if TYPE_CHECKING:
    from sweep.study.file import StudyFile


class Steps(Feed):
    """Keeps what every step of the first trial measured."""

    def __init__(self, specs: list[Any]) -> None:
        super().__init__(specs)
        self.seconds: list[float] = []

    def progress(self, number: int, metrics: Any) -> None:  # type: ignore[override]
        """See `TrialFeed.progress`."""
        if number == 0:
            self.seconds.append(metrics.seconds)


def measure(config: StudyFile, folder: Path) -> dict[str, Any]:
    """Loads what a worker loads, trains as many trials as there are slots, and tells time and memory.

    Args:
        config: The study. Its learner and its policy say who trains.
        folder: For adapters and logs.
    """
    from objectives.engines.adapter_files import AdapterFolder
    from objectives.learners.build import make_learner
    from objectives.trial.resources import load

    settings, slots = config.worker_settings(folder), config.learner.slots
    began = time.perf_counter()
    loaded = load(settings, max_loras=slots)
    load_s = time.perf_counter() - began
    before = _start_counting()
    feed = Steps(_trials(config, slots))
    make_learner(settings, loaded, AdapterFolder(folder / "adapters")).serve(feed)
    return {
        "slots": slots,
        "steps": config.budget.steps,
        "load_s": load_s,
        # The first steps warm up, and the last one may hold a score.
        "step_s": statistics.median(feed.seconds[2:-1] or feed.seconds),
        "micro_batch_size": config.learner.micro_batch_size,
        "memory": None if before is None else _memory(config, before),
    }


def _trials(config: StudyFile, slots: int) -> list[Any]:
    from objectives.lora import LoraSpec
    from objectives.trial.messages import TrialSpec

    rate, alpha = config.space.learning_rate[0], 32
    ranks = [r for r in reversed(RANKS) if r <= config.model.max_lora_rank]
    return [
        TrialSpec(number=i, lora=LoraSpec(r=ranks[i % len(ranks)], alpha=alpha), learning_rate=rate, seed=i)
        for i in range(slots)
    ]


def _start_counting() -> int | None:
    """What this process holds on the GPU now, from where its peak is counted; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return int(torch.cuda.memory_allocated())


def _memory(config: StudyFile, before: int) -> dict[str, int]:
    """Peaks beside the plan. Of training: over what was held once all was loaded. Of the device: all that is taken."""
    import torch

    free, total = torch.cuda.mem_get_info()
    return {
        "training_bytes": int(torch.cuda.max_memory_allocated()) - before,
        "device_bytes": total - free,
        **planned(config),
    }


def planned(config: StudyFile) -> dict[str, int]:
    """The same, as `sweep plan` counts it on the GPU of this machine."""
    from objectives.memory.config_files import find_config
    from objectives.memory.shape import read_shape
    from sweep.planning.pack import study_footprint
    from sweep.preflight.placement import device_here

    device = device_here()
    held = study_footprint(config, read_shape(find_config(config.model.path)), device)
    share = 0 if device is None else int(device.memory_bytes * config.model.gpu_memory_utilization)
    return {
        "planned_training_bytes": held.trainer + held.training_activations,
        "planned_device_bytes": share + held.in_trainer,
    }
