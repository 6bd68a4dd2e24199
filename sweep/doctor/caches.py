"""Where compiled kernels go: whether they can be written there, and loaded from there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from objectives.machine import can_run_programs, nearest_folder
from objectives.trial.places import compiled_folder
from sweep.doctor.check import Check, fault, ok, warning

ROOM_BYTES = 2 * 2**30
"""What the kernels of one model and card may take, with room: an estimate."""


def cache_check(logs: Path) -> Check:
    """Looks at the folders that FlashInfer, inductor, Triton and vLLM compile into, without making them.

    Args:
        logs: Where a worker keeps inductor's, unless TORCHINDUCTOR_CACHE_DIR names a folder.
    """
    folders = cache_folders(logs)
    for package, (variable, folder) in folders.items():
        there = nearest_folder(folder)
        remedy = f"set {variable} to a folder that can be written and from which programs may be loaded"
        if not os.access(there, os.W_OK):
            return fault("kernel caches", f"{package}'s, {folder}, cannot be written", remedy)
        if not can_run_programs(there):
            return fault("kernel caches", f"{package}'s, {folder}, lies on a file system mounted noexec", remedy)
    for package, (variable, folder) in folders.items():
        free = shutil.disk_usage(nearest_folder(folder)).free
        if free < ROOM_BYTES:
            found = f"{package}'s, {folder}, has {free / 2**30:.1f} GiB left"
            return warning("kernel caches", found, f"kernels may take {ROOM_BYTES / 2**30:.0f} GiB: set {variable}")
    return ok("kernel caches", ", ".join(f"{package} in {folder}" for package, (_, folder) in folders.items()))


def cache_folders(logs: Path) -> dict[str, tuple[str, Path]]:
    """The variable that names each package's folder, and the folder that it comes to."""
    home = Path.home()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    own = {
        "FlashInfer": ("FLASHINFER_WORKSPACE_BASE", home, ".cache/flashinfer"),
        "inductor": ("TORCHINDUCTOR_CACHE_DIR", compiled_folder(logs.absolute()) / "inductor", ""),
        "Triton": ("TRITON_CACHE_DIR", Path(os.environ.get("TRITON_HOME") or home) / ".triton" / "cache", ""),
        "vLLM": ("VLLM_CACHE_ROOT", cache / "vllm", ""),
    }
    return {
        package: (variable, Path(os.environ.get(variable) or usual).expanduser() / inside)
        for package, (variable, usual, inside) in own.items()
    }
