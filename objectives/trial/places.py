"""Where a worker puts what it writes and does not keep."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.engines.adapter_files import largest_adapter_bytes
from objectives.machine import can_run_programs, nearest_folder
from objectives.settings.sections import WorkerSettings


def compiled_folder(log_folder: Path) -> Path:
    """Where compiled code is kept from worker to worker; where that folder forbids programs, with temporary files."""
    allowed = can_run_programs(nearest_folder(log_folder.absolute()))
    return log_folder / "compiled" if allowed else Path(tempfile.gettempdir())


def adapters_room(slots: int, largest: int) -> int:
    """Bytes that adapters want where they are handed to the engine.

    Each trial's newest one lies there, another while it is written, and there is to be room for what else does.

    Args:
        slots: Trials at once.
        largest: Bytes of the largest adapter.
    """
    return (slots + 2) * largest


def adapter_place(scratch: Sequence[Path], base: Any, settings: WorkerSettings) -> Path:
    """Where adapters are handed to the engine: in memory where there is room for all that lie there at once.

    Containers often have 64 MiB of shared memory. An adapter of rank 64 for a 1B model takes 180.
    """
    disk, *memory = scratch
    size = largest_adapter_bytes(base, settings.model.max_lora_rank, settings.model.target_modules)
    needed = adapters_room(settings.learner.slots, size)
    return next((folder for folder in memory if shutil.disk_usage(folder).free >= needed), disk)
