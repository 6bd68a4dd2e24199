"""Whether the GPU here, as it is now, has room for a study."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from objectives.errors import ModelConfigError
from objectives.memory.exact import trainer_memory
from objectives.memory.footprint import fit, reserves
from objectives.memory.shape import ModelShape
from objectives.trial.places import adapters_room
from sweep.doctor.check import Check, fault, ok, warning
from sweep.doctor.gpu import free_memory
from sweep.planning.adapters import read_model
from sweep.planning.pack import sized_pack, study_footprint
from sweep.preflight.devices import Device
from sweep.preflight.number_format import with_dtype
from sweep.preflight.placement import device_here
from sweep.running.scratch import memory_folder
from sweep.study.file import StudyFile
from sweep.text import size


def gpu_study_checks(config: StudyFile) -> Iterator[Check]:
    """Looks at the GPU's memory, and at the shared memory that adapters go through, against what a study takes."""
    device = device_here()
    if device is None:
        return
    try:
        shape = read_model(config.model.name).shape
        sized = sized_pack(with_dtype(config, device), device)
        yield _room(sized, shape, device)
        if memory_folder() is not None:
            yield _adapters(sized, shape, memory_folder() or Path())
    except ModelConfigError:  # a shape that is not known: the plan says so, and the worker will tell
        return


def _room(config: StudyFile, shape: ModelShape, device: Device) -> Check:
    held = study_footprint(config, shape, device)
    share = int(device.memory_bytes * config.model.gpu_memory_utilization) if reserves(held.engine) else 0
    free, _ = free_memory() or (device.memory_bytes, device.memory_bytes)
    room = fit(held, config.model, memory_bytes=device.memory_bytes)
    if not room.fits:
        return warning("room on the GPU", f"{device.name} has too little (estimate)", room.reason)
    # vLLM does not start where less is free than its share, whatever it needs of it.
    if free < share:
        found = f"{size(free)} free, and the engine's share is {size(share)}"
        return fault("room on the GPU", found, "see what else uses the GPU, or lower model.gpu_memory_utilization")
    wanted = share + held.in_trainer
    found = f"{size(free)} free of the {size(wanted)} that engine and training take (estimate)"
    if free < wanted:
        return warning("room on the GPU", found, "see what else uses the GPU, or lower learner.micro_batch_size")
    return ok("room on the GPU", found)


def _adapters(config: StudyFile, shape: ModelShape, folder: Path) -> Check:
    ceiling, targets = config.engine_max_lora_rank, config.target_modules
    needed = adapters_room(config.learner.slots, trainer_memory(shape, ceiling, targets).adapter_bytes)
    free = shutil.disk_usage(folder).free
    found = f"{size(free)} free; adapters want {size(needed)} of it"
    if free < needed:
        return warning("adapters in shared memory", f"{found}, and go through the disk", "docker run --shm-size=2g")
    return ok("adapters in shared memory", found)
