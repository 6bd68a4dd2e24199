"""How many workers a study gets on this machine, and which GPU or how many threads each of them sees."""

from __future__ import annotations

import os
from collections.abc import Mapping

from objectives.machine import cores
from sweep.errors import StudyFileError
from sweep.preflight.devices import VISIBLE, Device, visible_gpus
from sweep.preflight.placement import uses_gpu_here
from sweep.study.file import StudyFile

THREADS = "OMP_NUM_THREADS"


def worker_places(config: StudyFile) -> tuple[Mapping[str, str], ...]:
    """What each worker's environment holds besides ours: one worker per GPU by default, and one on a processor.

    Raises:
        StudyFileError: where `run.workers` asks for more than there are GPUs or processor cores.
    """
    if uses_gpu_here():
        gpus = visible_gpus()
        count = _count(config, default=max(1, len(gpus)), most=max(1, len(gpus)), of="GPU")
        return tuple({VISIBLE: gpu} for gpu in gpus[:count]) or ({},)
    count = _count(config, default=1, most=max(1, int(cores())), of="processor core")
    # Whoever has set it has decided how many threads each worker gets.
    if count == 1 or THREADS in os.environ:
        return ({},) * count
    return ({THREADS: str(max(1, int(cores()) // count))},) * count


def planned_workers(config: StudyFile, device: Device | None) -> int:
    """How many workers a study will have on a device: those here, where the device is this machine's own."""
    if config.run.workers != "auto":
        return config.run.workers
    here = device is not None and device.source == "nvidia-smi"
    return max(1, len(visible_gpus())) if here and uses_gpu_here() else 1


def workers_note(config: StudyFile, device: Device | None) -> str:
    """Why this machine cannot have the workers that a study asks for; empty where it can, or is not planned for."""
    if config.run.ray is not None or (device is not None and device.source == "--device"):
        return ""
    try:
        worker_places(config)
    except StudyFileError as error:
        return str(error)
    return ""


def _count(config: StudyFile, *, default: int, most: int, of: str) -> int:
    asked = config.run.workers
    if asked == "auto":
        return default
    if asked > most:
        plural = "" if most == 1 else "s"
        raise StudyFileError(f"run.workers={asked}; this machine has {most} {of}{plural}; allowed: 'auto', 1 to {most}")
    return asked
