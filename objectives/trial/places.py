"""Where a worker puts what it writes and does not keep."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from objectives.engines.adapter_files import largest_adapter_bytes
from objectives.settings.sections import WorkerSettings


def compiled_folder(log_folder: Path) -> Path:
    """Where compiled code is kept from worker to worker; where that folder forbids programs, with temporary files."""
    log_folder.mkdir(parents=True, exist_ok=True)
    allowed = not os.statvfs(log_folder).f_flag & os.ST_NOEXEC
    return log_folder / "compiled" if allowed else Path(tempfile.gettempdir())


def adapter_place(scratch: Sequence[Path], base: Any, settings: WorkerSettings) -> Path:
    """Where adapters are handed to the engine: in memory where there is room for all that lie there at once.

    Containers often have 64 MiB of shared memory. An adapter of rank 64 for a 1B model takes 180.
    """
    disk, *memory = scratch
    size = largest_adapter_bytes(base, settings.model.max_lora_rank, settings.model.target_modules)
    # Each trial's newest one, another while it is written, and room for what else lies there.
    needed = (settings.learner.slots + 2) * size
    return next((folder for folder in memory if shutil.disk_usage(folder).free >= needed), disk)
