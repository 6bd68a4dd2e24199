"""What this machine lets a process have, control groups included. Needs the standard library alone."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
UNLIMITED = 2**60
"""Control groups without a limit name one of about this size, or `max`."""


def memory_limit() -> int | None:
    """Bytes that this process's control group may take; None where it has no limit."""
    files = [folder / name for folder in _groups("memory") for name in ("memory.max", "memory.limit_in_bytes")]
    return min((limit for file in files if (limit := _number(file)) is not None and limit < UNLIMITED), default=None)


def total_memory() -> int | None:
    """Bytes of memory that processes here may take in all; None where the system doesn't say."""
    sizes = [size for size in (_meminfo("MemTotal"), memory_limit()) if size is not None]
    return min(sizes, default=None)


def available_memory() -> int | None:
    """Bytes of memory that a new process may take; None where the system doesn't say."""
    left = [_meminfo("MemAvailable")]
    for folder in _groups("memory"):
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, used = _number(folder / limit_name), _number(folder / used_name)
            if limit is not None and limit < UNLIMITED:
                left.append(max(0, limit - (used or 0)))
    return min((size for size in left if size is not None), default=None)


def cores() -> float:
    """Processor cores that this process may use: those it may run on, less what its control group takes away."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder in _groups("cpu"):
        with suppress(OSError, ValueError):
            # Without a quota the file says `max`, which int() refuses: the ValueError that is suppressed.
            quota, period = (folder / "cpu.max").read_text().split()
            allowed = min(allowed, int(quota) / int(period))
        quota_us, period_us = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        if quota_us is not None and period_us and quota_us > 0:
            allowed = min(allowed, quota_us / period_us)
    return allowed


def memory_reached(pid: int) -> int | None:
    """The most bytes of memory that a process has held at once; None where it is gone, or the system doesn't say."""
    with suppress(OSError):
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def processor_name() -> str:
    """As Linux names it; elsewhere its architecture."""
    found = re.search(r"^model name\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def processor_flags() -> frozenset[str]:
    """Instruction sets that the processor has, as Linux names them; empty where it doesn't say."""
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _cpuinfo(), re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def has_native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself. Emulated, it took three times as long as float32."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver, as the loaded kernel module has it; None where there is none."""
    with suppress(OSError):
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", NVIDIA_DRIVER.read_text())
        return found[1] if found else None
    return None


def can_run_programs(folder: Path) -> bool:
    """Whether its file system lets programs and compiled code be loaded."""
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC


def nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))


def _cpuinfo() -> str:
    with suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


def _meminfo(name: str) -> int | None:
    with suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    return None


def _groups(controller: str) -> list[Path]:
    """The folders of this process's control group and of those above it, in version 2 and in version 1."""
    folders: list[Path] = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                root = CGROUP
            elif controller in controllers.split(","):
                root = CGROUP / controller
            else:
                continue
            # A group is bound by the limits of all groups above it, too.
            own = root / path.strip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
    return folders


def _number(file: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(file.read_text())
    return None
